"""ATen operators that are linear maps: shapes, indexing, sums, padding, averages, transforms."""

from __future__ import annotations

from typing import Any

import torch

from opdsl.backends.torch.primitives import Entry, Facts, call_of, enter, missing
from opdsl.backends.torch.tape import Slot
from opdsl.jets.graph import Composed, Constant, Linear, PiecewiseLinear, Rule, chooses
from opdsl.jets.operations import OPERATIONS, means
from opdsl.jets.propagate import JetOps

# Jointly linear in every tensor they take.
enter("view _unsafe_view reshape _reshape_alias view_as view_copy", "reshape")
enter("t transpose permute permute_copy transpose_copy t_copy", "permute_dims")
enter("expand expand_copy", "broadcast_to")
enter("squeeze squeeze_copy", "squeeze")
enter("unsqueeze unsqueeze_copy", "expand_dims")
enter("slice select narrow select_copy slice_copy", "slice")
enter("unbind split split_with_sizes unsafe_split unsafe_split_with_sizes chunk", "split")
enter("alias detach_copy lift_fresh_copy", "copy")
enter("cat", "concat")
enter("clone contiguous lift_fresh", "clone")
enter("stack", "stack")
enter("flip", "flip")
enter("roll", "roll")
enter("repeat", "repeat")
enter("diagonal diag_embed", "diagonal")
enter("unfold movedim rot90", "gather")
enter("sum", "sum")
enter("nansum", "nansum")
enter("mean", "mean")
enter("cumsum", "cumulative_sum")
enter("tril", "tril")
enter("triu", "triu")
enter("trace", "linear")
enter("reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d", "pad")
enter("avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d", "linear")
enter("upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
      "_upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d "
      "_upsample_bilinear2d_aa _upsample_bicubic2d_aa pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle "
      "im2col col2im", "linear")  # fmt: skip
enter("_fft_r2c _fft_c2r _fft_c2c", "fft")
enter("real", "real")
enter("imag", "imag")
enter("complex", "complex")
enter("view_as_real view_as_complex", "real_view")
enter("_conj _conj_physical conj_physical resolve_conj _neg_view", "conj")
enter("select_backward slice_backward unfold_backward diagonal_backward select_scatter slice_scatter diagonal_scatter "
      "as_strided_scatter", "scatter")  # fmt: skip


def _linear_in(operation: str, *names: str) -> Entry:
    """Linear in the named arguments; the others are indices and masks."""

    @means(operation)
    @chooses(Linear)
    def entry(facts: Facts) -> Rule:
        slots = [facts[name] for name in names]
        return Linear(tuple(s.index for s in slots if isinstance(s, Slot)))

    return entry


enter("gather index_select index _unsafe_index take repeat_interleave", _linear_in("take", "self"))
enter("embedding", _linear_in("take", "weight"))
enter("index_put _unsafe_index_put", _linear_in("scatter", "self", "values"))
enter("put masked_scatter index_add index_copy", _linear_in("scatter", "self", "source"))
enter("scatter.src scatter_add", _linear_in("scatter", "self", "src"))
enter("scatter.value index_fill.int_Scalar", "scatter", apply=call_of)


@means("pad")
@chooses(Linear, PiecewiseLinear)
def _padded(facts: Facts) -> Rule:
    return OPERATIONS["pad"].given(apply=facts.call) if facts["value"] else Linear()


enter("constant_pad_nd", _padded)


@means("astype")
@chooses(Linear, Constant)
def _cast(facts: Facts) -> Rule:
    source, target = facts.operands[0], facts.outputs[0]
    return Linear() if all(t.is_floating_point() or t.is_complex() for t in (source, target)) else Constant()


@means("broadcast_to")
@chooses(Composed, Constant)
def _copy(facts: Facts) -> Rule:
    # copy(self, src): the values of src in the shape and dtype of self; what self contained is gone.
    def build(ops: JetOps, target: Any, source: Any) -> Any:
        shape, dtype = tuple(ops.primal(target).shape), ops.primal(target).dtype
        return ops.linear(lambda h: h.to(dtype).expand(shape), source)

    return Composed(build) if facts.varies[1] else Constant()


@means("strided")
@chooses(Composed)
def _strided(facts: Facts) -> Rule:
    if not facts.operands[0].is_contiguous():
        return missing("as_strided of a tensor that is not contiguous depends on its layout in memory. Use indexing or unfold.")
    size, stride, offset = facts["size"], facts["stride"], facts["storage_offset"]
    return OPERATIONS["strided"].given(apply=lambda h: torch.as_strided(h.contiguous(), size, stride, offset or 0))


enter("as_strided", _strided)
enter("_to_copy prims::convert_element_type", _cast)
enter("copy", _copy)


@means("broadcast_to")
@chooses(Composed, Constant)
def _fill(facts: Facts) -> Rule:
    def build(ops: JetOps, target: Any, value: Any) -> Any:
        shape = tuple(ops.primal(target).shape)
        return ops.linear(lambda h: h.expand(shape), value)

    return Composed(build) if facts.varies[1] else Constant()


enter("fill.Tensor", _fill)
enter("fill.Scalar zero", "constant")
