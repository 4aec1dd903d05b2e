"""Small networks for phones, in Keras 3 and tf_keras, and what they start from.

mobilenet_v3_small, cifar_cnn, tiny_cnn
batch_norm_momentum  one that fits the number of steps
load_weights         pretrained weights from a file
warm_start           last week's student as a start
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "networks": [
            "batch_norm_momentum",
            "cifar_cnn",
            "load_weights",
            "mobilenet_v3_small",
            "tiny_cnn",
        ],
    },
)
