"""Non-maximum suppression as the end of an ONNX graph."""

from __future__ import annotations

from typing import Any

from utils.export.config import ExportConfig
from utils.inference.runtimes.session import require

_GRAPH = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
suppress (float[batch, anchors, {columns}] nms_in) => (float[batch, {k}, 6] nms_out)
<
  int64[3] nms_split = {{4, 1, {classes}}}, int64[2] nms_halves = {{2, 2}}, float nms_half = {{0.5}}, float nms_zero = {{0}},
  int64[2] nms_pairs = {{0, 2}}, int64[1] nms_last = {{2}}, int64 nms_k = {{{k}}}, int64[1] nms_ks = {{{k}}},
  int64[4] nms_pad2 = {{0, 0, 0, {k}}}, int64[6] nms_pad3 = {{0, 0, 0, 0, {k}, 0}},
  int64 nms_per_class = {{{per_class}}}, float nms_iou = {{{iou}}}, float nms_conf = {{{conf}}}
>
{{
  nms_xywh, nms_object, nms_classes = Split<axis = -1>(nms_in, nms_split)
  nms_scores = Mul(nms_object, nms_classes)
  nms_cls = ArgMax<axis = -1, keepdims = 1>(nms_scores)
  nms_best = GatherElements<axis = -1>(nms_scores, nms_cls)
  {separate}
  nms_by_class = Transpose<perm = [0, 2, 1]>(nms_own)
  nms_selected = NonMaxSuppression<center_point_box = 1>(nms_xywh, nms_by_class, nms_per_class, nms_iou, nms_conf)
  nms_index = Gather<axis = 1>(nms_selected, nms_pairs)
  nms_conf2 = Squeeze(nms_best, nms_last)
  nms_kept_conf = GatherND(nms_conf2, nms_index)
  nms_nothing = Sub(nms_conf2, nms_conf2)
  nms_kept = ScatterND(nms_nothing, nms_index, nms_kept_conf)
  nms_padded = Pad(nms_kept, nms_pad2)
  nms_top, nms_where = TopK<axis = 1>(nms_padded, nms_ks)
  nms_centre, nms_sides = Split<axis = -1>(nms_xywh, nms_halves)
  nms_halved = Mul(nms_sides, nms_half)
  nms_min = Sub(nms_centre, nms_halved)
  nms_max = Add(nms_centre, nms_halved)
  nms_cls_float = Cast<to = 1>(nms_cls)
  nms_rows = Concat<axis = -1>(nms_min, nms_max, nms_best, nms_cls_float)
  nms_all = Pad(nms_rows, nms_pad3)
  nms_at = Unsqueeze(nms_where, nms_last)
  nms_chosen = GatherND<batch_dims = 1>(nms_all, nms_at)
  nms_is = Greater(nms_top, nms_zero)
  nms_is_float = Cast<to = 1>(nms_is)
  nms_is3 = Unsqueeze(nms_is_float, nms_last)
  nms_out = Mul(nms_chosen, nms_is3)
}}
"""
_PER_CLASS = """nms_is_best = Equal(nms_scores, nms_best)
  nms_own = Where(nms_is_best, nms_scores, nms_zero)"""
_AGNOSTIC = "nms_own = Identity(nms_best)"


def append_nms(graph: Any, cfg: ExportConfig, classes: int) -> Any:
    """Append NMS to a model whose output is (B, N, 5 + classes): the output becomes (B, topk_all, 6) xyxy, confidence, class id.

    A box counts for its best class only, as in detect.py. Detections are sorted by confidence; rows that are left are 0.
    """
    onnx = require("onnx", "--nms", "pip install onnx")
    opset = next(entry.version for entry in graph.opset_import if entry.domain == "")
    text = _GRAPH.format(
        ir=graph.ir_version,
        opset=opset,
        columns=classes + 5,
        classes=classes,
        k=cfg.topk_all,
        per_class=cfg.topk_per_class,
        iou=float(cfg.iou_thres),
        conf=float(cfg.conf_thres),
        separate=_AGNOSTIC if cfg.agnostic_nms else _PER_CLASS,
    )
    tail = onnx.parser.parse_model(text)
    joined = onnx.compose.merge_models(graph, tail, io_map=[(graph.graph.output[0].name, "nms_in")], producer_name=graph.producer_name)
    new_names = {"output0": "predictions", "nms_out": "output0"}
    for node in joined.graph.node:
        node.input[:] = [new_names.get(name, name) for name in node.input]
        node.output[:] = [new_names.get(name, name) for name in node.output]
    joined.graph.output[0].name = "output0"
    onnx.checker.check_model(joined)
    return joined
