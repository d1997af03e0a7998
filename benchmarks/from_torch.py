"""Writes an architecture of torchvision or timm as ONNX, in an environment that has them; see census.py.

    PYTHON from_torch.py FAMILY NAME FILE SIZE

SIZE: height and width of the image. Weights are random as the library makes them, or as it makes others where it makes
zeros; batch normalisation has gains of 0.8 to 1.2, means around 0 and variances of 0.5 to 1.
"""

import sys

import torch


def main() -> None:
    family, name, path, size = sys.argv[1:]
    torch.manual_seed(0)
    model = _made(family, name).eval()
    for norm in model.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(norm.weight, 0.8, 1.2)
            torch.nn.init.normal_(norm.bias, 0.0, 0.1)
            torch.nn.init.normal_(norm.running_mean, 0.0, 0.1)
            torch.nn.init.uniform_(norm.running_var, 0.5, 1.0)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear) and not layer.weight.any():  # some begin their training so
            torch.nn.init.trunc_normal_(layer.weight, std=0.02)
    image = torch.zeros(1, 3, int(size), int(size))
    torch.onnx.export(
        model, (image,), path, input_names=["image"], output_names=["scores"], opset_version=17, dynamo=False
    )


def _made(family: str, name: str) -> torch.nn.Module:
    if family == "torchvision":
        import torchvision

        options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(name, weights=None, **options)
    import timm

    return timm.create_model(name, pretrained=False, exportable=True)


if __name__ == "__main__":
    main()
