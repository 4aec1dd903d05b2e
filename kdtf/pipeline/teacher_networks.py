"""Teachers before training: a backbone of Keras, of keras-cv or of a file, with a new head."""

from kdtf import students, teachers

RESNETS = {  # keras-cv ResNetV2, to train from scratch: filters and stride of each stack
    "resnet14_v2": ([64, 96, 192], [2, 2, 2]),
    "resnet18_v2": ([64, 128, 256, 512], [1, 2, 2, 2]),
}


def resnet_v2(name, image_size):
    """A keras-cv ResNetV2 backbone (arXiv:1603.05027) of raw images, randomly initialised."""
    import keras_cv

    filters, strides = RESNETS[name]
    backbone = keras_cv.models.ResNetV2Backbone(
        stackwise_filters=filters,
        stackwise_blocks=[2] * len(filters),  # with one, keras-cv names two layers alike
        stackwise_strides=strides,
        block_type="basic_block",
        include_rescaling=True,
        input_shape=(image_size, image_size, 3),
    )
    return teachers.keras_cv_backbone(backbone, image_size)


def build_teacher(info, config, steps):
    """The untrained teacher, for a data set's classes and metadata.

    Args:
      info: `data.DatasetInfo`.
      config: `TeacherConfig`.
      steps: of the whole training; the momentum of batch norms depends on it.
    """
    if config.backbone.endswith(".keras"):
        body = teachers.saved_backbone(config.backbone, config.image_size)
    elif config.backbone in RESNETS:
        body = resnet_v2(config.backbone, config.image_size)
    else:
        body = teachers.applications_backbone(config.backbone, config.image_size, config.weights)
    return teachers.classifier(
        body,
        len(info.classes),
        metadata=info.vocabulary_sizes() if config.metadata else None,
        dropout=config.dropout,
        bn_momentum=students.batch_norm_momentum(steps),
    )
