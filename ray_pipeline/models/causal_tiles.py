"""Causal attention of a whole chunk in tiles of queries, forward and backward, for devices whose kernel skips nothing.

The library's CPU kernel multiplies queries with keys that they cannot see, in its backward pass most of all, and keeps its
output for the way back. Here a tile sees the keys up to its own end and no others, and only queries, keys and values are
kept: what the usual formula reads from the output, sum_d(dO O), is also sum_s(dP P) over weights that are needed anyway.
Shapes: B batch, H query heads, G key heads, T positions, D width of a head, F query heads of one key head (H / G), N key
heads of one product, R its rows (F times the tile's queries), S keys up to a tile's end.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

TILE = 64  # queries; smaller ones skip more keys and start more kernels
ROWS = 4 * TILE  # of one product, all its heads together: scores of some 600 keys then stay in a core's cache


class CausalTiles(torch.autograd.Function):
    """softmax(scale q k^T) v of every position over itself and all before it, without a mask or a prefix.

    Query (B, H, T, D), key and value (B, G, T, D) with H a multiple of G; keys are not repeated. Output (B, T, H, D).
    Half types are computed in fp32. Differentiable once, as often as its graph is kept.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """The output; queries, keys and values are kept."""
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        batch, heads, length, width = query.shape
        output, later_tt = query.new_empty(batch, length, heads, width), _later(query)
        for row in range(batch):
            keys_GTD, values_GTD = _exact(key[row]), _exact(value[row])
            queries_GFTD, output_GFTD = _grouped(query[row], key), _grouped(output[row].transpose(0, 1), key)
            for own, tile, seen in _tiles(queries_GFTD):
                weights_NRS = _weights(_rows(queries_GFTD[own, :, tile]) * scale, keys_GTD[own, seen], tile, later_tt)
                part_NRD = torch.bmm(weights_NRS, values_GTD[own, seen])
                output_GFTD[own, :, tile] = part_NRD.view(output_GFTD[own, :, tile].shape)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients for query, key and value; the weights are computed again, tile by tile."""
        query, key, value = ctx.saved_tensors
        to_query, to_key, to_value = query.new_empty(query.shape), _zeros(key), _zeros(value)
        later_tt = _later(query)
        for row in range(len(query)):
            keys_GTD, values_GTD = _exact(key[row]), _exact(value[row])
            queries_GFTD, to_queries_GFTD = _grouped(query[row], key), _grouped(to_query[row], key)
            inward_GFTD = _grouped(gradients[0][row].transpose(0, 1), key)
            for own, tile, seen in _tiles(queries_GFTD):
                queries_NRD, inward_NRD = _rows(queries_GFTD[own, :, tile]) * ctx.scale, _rows(inward_GFTD[own, :, tile])
                keys_NSD = keys_GTD[own, seen]
                weights_NRS = _weights(queries_NRD, keys_NSD, tile, later_tt)
                to_value[row, own, seen].baddbmm_(weights_NRS.transpose(1, 2), inward_NRD)
                to_weights_NRS = torch.bmm(inward_NRD, values_GTD[own, seen].transpose(1, 2))
                to_scores_NRS = torch._softmax_backward_data(to_weights_NRS, weights_NRS, -1, weights_NRS.dtype)
                to_key[row, own, seen].baddbmm_(to_scores_NRS.transpose(1, 2), queries_NRD)
                part_NRD = torch.bmm(to_scores_NRS, keys_NSD).mul_(ctx.scale)
                to_queries_GFTD[own, :, tile] = part_NRD.view(to_queries_GFTD[own, :, tile].shape)
        return to_query, to_key.to(key.dtype), to_value.to(value.dtype), None


def causal_tiles(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """`CausalTiles` of queries (B, H, T, D) over keys and values (B, G, T, D): (B, T, H, D).

    Raises:
        ValueError: unequal lengths, which is what a prefix makes of them, or heads that cannot be shared out.
    """
    if query.shape[2] != key.shape[2] or query.shape[1] % key.shape[1]:
        raise ValueError(f"queries {tuple(query.shape)} over keys {tuple(key.shape)}; expected equal lengths and groups of heads")
    output: Tensor = CausalTiles.apply(query, key, value, scale)
    return output


def _tiles(queries_GFTD: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Key heads, queries and keys of one product after the other."""
    groups, share, length, _ = queries_GFTD.shape
    together = max(1, ROWS // (TILE * share))
    for group in range(0, groups, together):
        for start in range(0, length, TILE):
            stop = min(start + TILE, length)
            yield slice(group, group + together), slice(start, stop), slice(0, stop)


def _weights(queries_NRD: Tensor, keys_NSD: Tensor, tile: slice, later_tt: Tensor) -> Tensor:
    """Softmax weights (N, R, S) of scaled queries that stand at the last keys."""
    scores_NRS = torch.bmm(queries_NRD, keys_NSD.transpose(1, 2))
    count = tile.stop - tile.start
    own_NFtt = scores_NRS.view(len(scores_NRS), -1, count, tile.stop)[..., tile]
    own_NFtt.masked_fill_(later_tt[:count, :count], -torch.inf)
    return scores_NRS.softmax(-1)


def _later(like: Tensor) -> Tensor:
    """Which keys of a tile stand behind which of its queries."""
    return torch.ones(TILE, TILE, dtype=torch.bool, device=like.device).triu_(1)


def _grouped(all_HTD: Tensor, key: Tensor) -> Tensor:
    """A view (G, F, T, D) by key heads."""
    heads, length, width = all_HTD.shape
    return all_HTD.view(key.shape[1], heads // key.shape[1], length, width)


def _rows(part_NFtD: Tensor) -> Tensor:
    """All queries of a tile that share a key head in one product: (N, R, D)."""
    return _exact(part_NFtD.flatten(1, 2))


def _exact(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros(like.shape, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
