"""ResNet34 with ImageNet weights, of which the top layers alone are trained, as the paper's last experiment has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from adma.bench import _options
from adma.bench.errors import BenchError

REPOSITORY = "microsoft/resnet-34"  # on the Hugging Face hub; Apache-2.0
REVISION = "4d180fbdc81b4d5d4eaa86ab89bdd669200dd477"  # the commit that added FILE
FILE = "model.safetensors"
PRETRAINED, NONE = "pretrained", "none"
LAYERS = 34  # with weights: the stem, 32 convolutions in 16 basic blocks, the classifier; shortcuts do not count
ARCHITECTURE: dict[str, Any] = {
    "num_channels": 3,
    "embedding_size": 64,
    "hidden_sizes": [64, 128, 256, 512],
    "depths": [3, 4, 6, 3],
    "layer_type": "basic",
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
}


def _top(text: str) -> int:
    if text == "all":
        return LAYERS
    if not (text.isdecimal() and text.isascii() and 1 <= int(text) <= LAYERS):
        raise ValueError(f"must be a whole number from 1 (the classifier alone) to {LAYERS}, or all, got {text!r}")
    return int(text)


@dataclass(frozen=True)
class ResNet34Options:
    """What may stand behind `resnet34:`.

    weights: pretrained (ImageNet), none (random), or a folder with the model.safetensors that transformers'
        `save_pretrained` wrote; a folder called none is written ./none, and no path may hold a comma.
    top: how many layers are trained, counted from the output, see `ResNet34`; all means 34.
    size: enlarge the images to size x size.
    """

    weights: str = _options.option(PRETRAINED, str, example=NONE)
    top: int = _options.option(5, _top, example="all")
    size: int | None = _options.whole(None, example="64")


class ResNet34(nn.Module):
    """ResNet34 (He et al. 2016, "Deep Residual Learning for Image Recognition"), its top layers trained.

    "Top n layers" (the paper, Sec. 5, says "the top 5" and no more) means here: of the 34 layers with weights,
    counted from the output, the new classifier and the last n - 1 convolutions, each with its batch normalisation,
    and with the shortcut where it is the first of a block. So n = 5 is the classifier and the last two basic blocks.
    All else is frozen: it gets no gradient, and its batch normalisation keeps its stored mean and variance in
    training too (`train()` leaves it in evaluation mode).

    Images come normalised by the mean and standard deviation of the training set, not by ImageNet's. Grey ones are
    repeated to three channels.

    Args:
        in_channels: 1 or 3.
        num_classes: of the logits.
        image_size: (height, width).
        weights: "pretrained": of ImageNet, from the cache of the Hugging Face hub, else downloaded (87 MB) in one
            pinned revision; HF_HOME and HF_HUB_OFFLINE are honoured. "none": random ones; with them the frozen
            layers stay random. Anything else is a folder.
        top: 1 to 34.
        size: enlarge to (size, size), bilinear without antialiasing; None: as they come.

    Shape:
        (N, in_channels, height, width) to (N, num_classes).

    Raises:
        BenchError: transformers is missing, the weights cannot be had or are of another network, the images have
            another number of channels or are larger than `size`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        weights: str = PRETRAINED,
        top: int = 5,
        size: int | None = None,
    ) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise BenchError(f"--model resnet34 takes images of 1 or 3 channels, these have {in_channels}; try convnet")
        height, width = image_size
        if size is not None and size < max(image_size):
            raise BenchError(
                f"--model resnet34: size={size} only enlarges, and the images are {height} x {width}; leave it out, "
                f"or give at least {max(image_size)}"
            )
        self.size = size
        self.features: Any = _features()
        if weights != NONE:
            _load(self.features, weights)
        self.classifier = nn.Linear(ARCHITECTURE["hidden_sizes"][-1], num_classes)
        self._frozen = _units(self.features)[: LAYERS - top]
        for module in self._frozen:
            module.requires_grad_(False)
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        if self.size is not None:
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        maps = self.features(x.expand(-1, 3, -1, -1))
        logits: Tensor = self.classifier(maps.pooler_output.flatten(1))
        return logits

    def train(self, mode: bool = True) -> ResNet34:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def _features() -> Any:
    """The network below the classifier, with random weights from torch's global generator."""
    try:
        from transformers import ResNetConfig, ResNetModel
    except ImportError as error:
        raise BenchError(f"--model resnet34 needs transformers ({error}): pip install 'adma[pretrained]'") from error
    return ResNetModel(ResNetConfig(**ARCHITECTURE))


def _units(features: Any) -> list[nn.ModuleList]:
    """The 33 convolutions from the input on, each with what goes with it."""
    units = [nn.ModuleList([features.embedder.embedder])]
    for stage in features.encoder.stages:
        for block in stage.layers:
            first, second = block.layer
            units += [nn.ModuleList([first, block.shortcut]), nn.ModuleList([second])]
    return units


def _load(features: nn.Module, weights: str) -> None:
    """Read the weights into the network; those of a classifier are left out, any other difference is an error."""
    from safetensors.torch import load_file

    file = _fetch() if weights == PRETRAINED else Path(weights).expanduser() / FILE
    where = f"--model resnet34:weights={weights}"
    if not file.is_file():
        raise BenchError(
            f"{where}: there is no file {str(file)!r}; weights is {PRETRAINED}, {NONE}, or a folder that holds {FILE}, "
            "as save_pretrained of transformers writes it"
        )
    try:
        stored = load_file(file)
        stored = {k.removeprefix("resnet."): v for k, v in stored.items() if not k.startswith("classifier.")}
        missing, unexpected = features.load_state_dict(stored, strict=False)
    except Exception as error:  # cut short, no such format, other shapes
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise BenchError(f"{where}: {str(file)!r} cannot be used: {reason[:300]}") from error
    # how many batches a layer has seen changes nothing where, as here, its momentum is fixed
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise BenchError(
            f"{where}: {str(file)!r} is not of a ResNet34: {len(missing)} weights are missing and {len(unexpected)} "
            f"do not belong, such as {(missing + unexpected)[0]!r}"
        )


def _fetch() -> Path:
    """The file of pretrained weights, from the cache if it is there, which asks nobody."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(REPOSITORY, FILE, revision=REVISION))
    except Exception as error:  # no network, offline mode, no space, a server's refusal
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BenchError(
            f"--model resnet34: the ImageNet weights ({REPOSITORY}, 87 MB) are not in the cache and cannot be "
            f"fetched ({reason}). Run once with a network and without HF_HUB_OFFLINE=1; or give a folder that "
            f"holds its {FILE}, resnet34:weights=FOLDER; or train from random weights, resnet34:weights={NONE},top=all"
        ) from error
