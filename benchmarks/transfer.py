"""Transfer: accuracy against seconds, from scratch, with a frozen backbone, and in stages; beside a probe in PyTorch.

    python benchmarks/transfer.py FOLDER [SEEDS]

EfficientNet-Lite0 on 480 photos of road signs (benchmarks/road_signs.py) at 160 px, measured on 600 others, and on the
embedded digits at 64 px. The probe is what one writes with timm and torch.nn.Linear: the same weights' file, the same
photos, features once, then a head. FOLDER keeps photos and runs. Seconds are those of the training alone, all in one
process on this machine; `pip install kcls[dev]`, torch and timm are needed.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from road_signs import draw_photos

import kcls
from kcls.recipe import Recipe, read_recipe

SOURCE = "package/efficientnet_lite0"
SIGNS = "{source: folder, path: signs, train: 'all[:80%]', val: 'all[80%:]'}"
DIGITS = "{source: digits, train: 'train[:90%]', val: 'train[90%:]', test: test}"
RECIPE = """\
model: {{name: efficientnet_lite0{pretrained}}}
data: {data}
image: {{size: {size}, fit: crop, crop_fraction: 1.0}}
augment: {{flip: false, crop_padding: {padding}, rotation: 10, scale: 0.1}}
optimizer: {{name: adamw, lr: 2.0e-3, weight_decay: 0.05, warmup_epochs: 0.5}}
train: {{batch_size: 32, norm_momentum: 0.9, label_smoothing: 0.1, seed: {seed}, {how}}}
"""
HEAD = "{epochs: 15, freeze: backbone, lr: 3.0e-3}"
HOW = {
    "scratch": "epochs: {epochs}",
    "frozen": "stages: [{{epochs: 15, freeze: backbone, views: 4, lr: 3.0e-3}}]",
    "staged": f"stages: [{{{HEAD}}}, {{{{epochs: {{epochs}}}}}}]",
}


def recipe(folder: Path, data: str, size: int, epochs: int, way: str, seed: int) -> Recipe:
    text = RECIPE.format(
        pretrained="" if way == "scratch" else f", pretrained: {SOURCE}",
        data=data,
        size=size,
        padding=size // 16,
        seed=seed,
        how=HOW[way].format(epochs=epochs),
    )
    return read_recipe(text, way, folder)


def trained(recipe: Recipe, out: Path) -> tuple[float, kcls.Run]:
    began = time.perf_counter()
    run = kcls.train(recipe, out=out, force=True)
    return time.perf_counter() - began, run


def measured(run: kcls.Run, folder: Path) -> float:
    """Top-1 on 600 photos that no split of the training holds, or on the test digits."""
    if run.recipe.data.source == "digits":
        return kcls.evaluate(run).summary["top1"]
    return kcls.evaluate(run, data=folder / "others").summary["top1"]


def probe(folder: Path, seed: int) -> tuple[float, float]:
    """Seconds and top-1 of a linear probe in PyTorch, at the 224 px of the weights."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from parity import import_timm

    timm = import_timm()
    import torch
    from PIL import Image

    from kcls.pretrained import find_pretrained

    torch.manual_seed(seed)
    began = time.perf_counter()
    network = timm.create_model("tf_efficientnet_lite0")
    theirs = torch.load(find_pretrained("efficientnet_lite0", SOURCE).file, weights_only=True)
    values = iter(v for k, v in theirs.items() if not k.endswith("num_batches_tracked"))
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(next(values))
    network.reset_classifier(0)
    network.eval()

    def features(paths):
        squares = [np.asarray(Image.open(p).resize((224, 224), Image.Resampling.BICUBIC)) for p in paths]
        with torch.inference_mode():
            batches = torch.tensor(np.stack(squares)).permute(0, 3, 1, 2).split(32)
            return torch.cat([network(batch.float() / 127.5 - 1) for batch in batches])

    train, others = (sorted(Path(folder, name).rglob("*.jpg")) for name in ("signs", "others"))
    train = [p for p in train if int(p.stem) < 80]
    names = sorted({p.parent.name for p in train})
    x, y = features(train), torch.tensor([names.index(p.parent.name) for p in train])
    mean, std = x.mean(0), x.std(0) + 1e-6
    head = torch.nn.Linear(x.shape[1], len(names))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-2)
    for _ in range(60):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head((x[batch] - mean) / std), y[batch]).backward()
            optimizer.step()
    seconds = time.perf_counter() - began
    with torch.inference_mode():
        answers = head((features(others) - mean) / std).argmax(1)
    return seconds, float((answers == torch.tensor([names.index(p.parent.name) for p in others])).float().mean())


def rows(folder: Path, seeds: int) -> Iterator[tuple[str, str, list[tuple[float, float]]]]:
    for name, data, size, epochs in (("road signs", SIGNS, 160, 8), ("digits", DIGITS, 64, 4)):
        for way in HOW:
            found = []
            for seed in range(seeds):
                scratch = epochs if way != "scratch" else epochs + 1  # the time of the head's stage
                seconds, run = trained(
                    recipe(folder, data, size, scratch, way, seed), folder / f"{name}_{way}_{seed}".replace(" ", "_")
                )
                found.append((seconds, measured(run, folder)))
            yield name, way, found
    yield "road signs", "probe, PyTorch", [probe(folder, seed) for seed in range(seeds)]


def main(folder: Path, seeds: int = 3) -> None:
    draw_photos(folder / "signs", 100, 0)
    draw_photos(folder / "others", 100, 1)
    print("| images | way | top-1, mean | of each seed | seconds, median |\n|---|---|---|---|---|")
    for name, way, found in rows(folder, seeds):
        seconds, top1 = zip(*found, strict=True)
        each = ", ".join(f"{t:.1%}" for t in top1)
        print(f"| {name} | {way} | {np.mean(top1):.1%} | {each} | {np.median(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
