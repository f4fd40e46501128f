"""Where the lines of text lie on a page: a small convolutional network and what makes boxes of its maps.

The network sees grey pixels and answers on a grid of STRIDE pixels: how likely a cell belongs to the *core* of a line (its
middle half, gaps between words included), and the logarithms of the distances from there to the line's upper and lower
edge. A connected patch of core is a line; its cells agree on height and slope. Frames: `_px` are pixels of the grey input.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from schemas.picture import Box

STRIDE = 4
COARSEST = 32  # the network's deepest grid; inputs are padded to a multiple of it
UNIT_PX = 8.0  # distances are learned as log(distance / UNIT_PX)
WIDTHS = (24, 24, 48, 72, 96)
CORE_PROBABILITY = 0.4  # of a cell that belongs to a line
LINE_PROBABILITY = 0.55  # mean over a line's cells that makes it one
JOIN_HEIGHTS = 0.9  # a gap between two pieces of one row that is none between two lines
SLOPE_NEEDS = 4.0  # a line this many times as long as high knows its own slope; shorter ones lie like the page
LEAST_CELLS = 2  # of a line: a figure one stands two cells high
STEEPEST = 0.2


Cells = tuple[NDArray[np.intp], NDArray[np.intp]]  # rows and columns of a patch


@dataclass(frozen=True)
class FoundLine:
    """A line as the finder sees it: ends and middle in x, y px; its middle runs through (x0 + x1) / 2, `middle_y_px`.

    `slope` is dy / dx, `height_px` from upper to lower edge, `score` the mean core probability.
    """

    x0_px: float
    x1_px: float
    middle_y_px: float
    slope: float
    height_px: float
    score: float

    @property
    def box_px(self) -> Box:
        half = self.height_px / 2 + abs(self.slope) * (self.x1_px - self.x0_px) / 2
        return self.x0_px, self.middle_y_px - half, self.x1_px, self.middle_y_px + half

    def moved(self, scale: float, x_px: float, y_px: float) -> "FoundLine":
        """The same line on a page `scale` times as large, seen from a place (x_px, y_px) up and left of this one."""
        return FoundLine(
            self.x0_px * scale + x_px, self.x1_px * scale + x_px, self.middle_y_px * scale + y_px, self.slope,
            self.height_px * scale, self.score,
        )  # fmt: skip


class _Convolution(nn.Sequential):
    def __init__(self, inner: int, outer: int, step: int = 1, side: int = 3) -> None:
        super().__init__(nn.Conv2d(inner, outer, side, step, side // 2, bias=False), nn.BatchNorm2d(outer), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _Convolution(width, width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.second(self.first(x))))


class LineFinderNetwork(nn.Module):
    """(B, 1, Y, X) ink in 0..1, sides multiples of COARSEST -> (B, 3, Y / STRIDE, X / STRIDE): core logit, log distances."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth, deepest = WIDTHS
        self.stem = nn.Sequential(_Convolution(1, half, 2), _Convolution(half, quarter, 2), _Convolution(quarter, quarter))
        self.eighth = nn.Sequential(_Convolution(quarter, eighth, 2), _Residual(eighth))
        self.sixteenth = nn.Sequential(_Convolution(eighth, sixteenth, 2), _Residual(sixteenth), _Residual(sixteenth))
        self.deepest = nn.Sequential(_Convolution(sixteenth, deepest, 2), _Residual(deepest), _Residual(deepest))
        self.down = nn.ModuleList(
            [nn.Conv2d(deepest, sixteenth, 1), nn.Conv2d(sixteenth, eighth, 1), nn.Conv2d(eighth, quarter, 1)]
        )
        self.mix = nn.ModuleList(
            [_Convolution(sixteenth, sixteenth), _Convolution(eighth, eighth), _Convolution(quarter, quarter)]
        )
        self.head = nn.Conv2d(quarter, 3, 1)

    def forward(self, ink_B1YX: Tensor) -> Tensor:
        quarter = self.stem(ink_B1YX)
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        x = self.deepest(sixteenth)
        for narrow, mix, skip in zip(self.down, self.mix, (sixteenth, eighth, quarter), strict=True):
            x = mix(nn.functional.interpolate(narrow(x), scale_factor=2.0, mode="nearest") + skip)
        maps: Tensor = self.head(x)
        return maps


class LineFinder:
    """A loaded finder. Deterministic: a page's lines depend on its pixels alone."""

    def __init__(self, network: LineFinderNetwork) -> None:
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def load(cls, file: Path) -> "LineFinder":
        """From safetensors that have passed the gate.

        Raises:
            RuntimeError: tensors are missing, unknown, or of another shape.
        """
        network = LineFinderNetwork()
        stored = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(file).items()}
        network.load_state_dict(stored)
        return cls(network)

    def find(self, grey_YX: NDArray[np.uint8]) -> list[FoundLine]:
        """Lines of one picture, in no particular order."""
        core_YX, upper_YX, lower_YX = self._maps(grey_YX)
        return lines_of(core_YX, upper_YX, lower_YX)

    @torch.inference_mode()
    def _maps(self, grey_YX: NDArray[np.uint8]) -> NDArray[np.float32]:
        high, wide = grey_YX.shape
        padded = np.pad(grey_YX, ((0, -high % COARSEST), (0, -wide % COARSEST)), mode="edge")
        maps_3YX = self.network(ink_of(torch.from_numpy(padded)[None, None]))[0]
        kept = maps_3YX[:, : -(-high // STRIDE), : -(-wide // STRIDE)]
        maps: NDArray[np.float32] = torch.cat([kept[:1].sigmoid(), kept[1:].exp() * UNIT_PX]).numpy()
        return maps


def ink_of(grey_B1YX: Tensor) -> Tensor:
    """Grey 0..255 as the network sees it: 0 white to 1 black."""
    return (1 - grey_B1YX.float() / 255).contiguous(memory_format=torch.channels_last)


def save(network: LineFinderNetwork, file: Path) -> None:
    """As fp16 safetensors."""
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    whole = {name: tensor for name, tensor in network.state_dict().items() if not tensor.is_floating_point()}
    save_file({**state, **whole}, file)


def lines_of(core_YX: NDArray[np.float32], upper_YX: NDArray[np.float32], lower_YX: NDArray[np.float32]) -> list[FoundLine]:
    """Lines of core probabilities and the distances (px) from each cell's middle to the upper and lower edge."""
    patches = [
        (rows, columns)
        for rows, columns in connected(core_YX > CORE_PROBABILITY)
        if len(rows) >= LEAST_CELLS and core_YX[rows, columns].mean() >= LINE_PROBABILITY
    ]
    pieces = [(_measured(*patch, core_YX, upper_YX, lower_YX), patch) for patch in patches]
    measured = [_measured(*patch, core_YX, upper_YX, lower_YX) for patch in _joined(pieces)]
    knowing = sorted((line.slope, line.x1_px - line.x0_px) for line in measured if _knows_slope(line))
    page_slope = _weighted_median(knowing)
    return [
        FoundLine(
            line.x0_px, line.x1_px, line.middle_y_px, line.slope if _knows_slope(line) else page_slope, line.height_px, line.score
        )
        for line in measured
    ]


def _joined(pieces: list[tuple[FoundLine, Cells]]) -> list[Cells]:
    """Patches whose lines go on in one another: a gap that a full stop or a wide space has left."""
    pieces = sorted(pieces, key=lambda piece: piece[0].x0_px)
    whole: list[list[tuple[FoundLine, Cells]]] = []
    for line, cells in pieces:
        before = next((one for one in whole if _goes_on(one[-1][0], line)), None)
        if before is None:
            whole.append([(line, cells)])
        else:
            before.append((line, cells))
    return [(np.concatenate([c[0] for _, c in one]), np.concatenate([c[1] for _, c in one])) for one in whole]


def _goes_on(line: FoundLine, behind: FoundLine) -> bool:
    low, high = sorted((line.height_px, behind.height_px))
    gap = behind.x0_px - line.x1_px
    drop = behind.middle_y_px - line.middle_y_px - line.slope * ((behind.x0_px + behind.x1_px) - (line.x0_px + line.x1_px)) / 2
    return low >= 0.5 * high and -low <= gap <= JOIN_HEIGHTS * high and abs(drop) <= 0.3 * high


def _knows_slope(line: FoundLine) -> bool:
    return line.x1_px - line.x0_px > SLOPE_NEEDS * line.height_px


def _weighted_median(pairs: list[tuple[float, float]]) -> float:
    """Of sorted (value, weight); 0 where there are none."""
    half, seen = sum(weight for _, weight in pairs) / 2, 0.0
    for value, weight in pairs:
        seen += weight
        if seen >= half:
            return value
    return 0.0


def _measured(
    rows: NDArray[np.intp], columns: NDArray[np.intp],
    core_YX: NDArray[np.float32], upper_YX: NDArray[np.float32], lower_YX: NDArray[np.float32],
) -> FoundLine:  # fmt: skip
    """One patch as a straight line: the middle of the edges its cells point to, fitted over x by least squares."""
    weight = core_YX[rows, columns].astype(np.float64)
    weight /= weight.sum()
    x, y = (columns + 0.5) * STRIDE, (rows + 0.5) * STRIDE
    upper, lower = y - upper_YX[rows, columns], y + lower_YX[rows, columns]
    middle, x0, x1 = (upper + lower) / 2, float(columns.min() * STRIDE), float((columns.max() + 1) * STRIDE)
    mean_x, mean_y = float(weight @ x), float(weight @ middle)
    spread = float(weight @ (x - mean_x) ** 2)
    slope = float(weight @ ((x - mean_x) * (middle - mean_y))) / max(spread, 1e-6)
    slope = max(-STEEPEST, min(STEEPEST, slope))
    return FoundLine(
        x0,
        x1,
        mean_y + slope * ((x0 + x1) / 2 - mean_x),
        slope,
        float(weight @ (lower - upper)),
        float(core_YX[rows, columns].mean()),
    )


def connected(mask_YX: NDArray[np.bool_]) -> list[Cells]:
    """Rows and columns of each patch of cells that touch, corners included, in the order of their first cells."""
    edges = np.diff(np.pad(mask_YX.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    row_R, first_R = np.nonzero(edges == 1)  # runs R of cells in a row, in raster order
    _, end_R = np.nonzero(edges == -1)
    parent = list(range(len(row_R)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = run = parent[parent[run]]
        return run

    starts = np.searchsorted(row_R, np.arange(mask_YX.shape[0] + 1))
    for row in range(1, mask_YX.shape[0]):
        above, here = int(starts[row - 1]), int(starts[row])
        while above < starts[row] and here < starts[row + 1]:
            if first_R[above] <= end_R[here] and first_R[here] <= end_R[above]:
                a, b = root(above), root(here)
                parent[max(a, b)] = min(a, b)
            if end_R[above] < end_R[here]:
                above += 1
            else:
                here += 1
    root_R = np.asarray([root(run) for run in range(len(parent))], np.intp)
    return [_cells(row_R, first_R, end_R, np.nonzero(root_R == one)[0]) for one in np.unique(root_R)]


def _cells(row_R: NDArray[np.intp], first_R: NDArray[np.intp], end_R: NDArray[np.intp], runs: NDArray[np.intp]) -> Cells:
    rows = np.concatenate([np.full(end_R[run] - first_R[run], row_R[run]) for run in runs])
    return rows, np.concatenate([np.arange(first_R[run], end_R[run]) for run in runs])
