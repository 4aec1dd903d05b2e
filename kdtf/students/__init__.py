"""Small networks for phones, in Keras 3 and tf_keras, and what they start from.

mobilenet_v3_small, cifar_cnn, tiny_cnn
batch_norm_momentum  one that fits the number of steps
load_weights         pretrained weights from a file
warm_start           an earlier student as a start, classes mapped by name
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["warm_start"],
    submod_attrs={
        "networks": [
            "batch_norm_momentum",
            "cifar_cnn",
            "mobilenet_v3_small",
            "tiny_cnn",
        ],
        "weights": ["load_weights"],
    },
)
