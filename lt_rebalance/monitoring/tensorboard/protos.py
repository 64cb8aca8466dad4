"""TensorBoard's messages from plain values: scalars, images, precision-recall curves, tables, charts.

Shape suffixes: K classes, T thresholds. `Value` is `tensorboard.compat.proto.summary_pb2.Summary.Value`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.pr_curve import metadata as pr_curve_metadata

Value = Any  # the messages have no types
HParam = str | float | bool

SESSION_STATUS = {
    "complete": api_pb2.STATUS_SUCCESS,
    "diverged": api_pb2.STATUS_FAILURE,
    "failed": api_pb2.STATUS_FAILURE,
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image for TensorBoard."""

    content: bytes
    """PNG or JPEG"""
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart of the custom scalars dashboard: one line per tag that matches an expression."""

    title: str
    tags: tuple[str, ...] = ()
    """regular expressions"""
    bands: tuple[tuple[str, str, str], ...] = ()
    """tags of (value, lower, upper); makes it a chart of bands instead"""


def scalar(tag: str, value: float) -> Value:
    """Return a scalar; TensorBoard keeps float32."""
    return summary_pb2.Summary.Value(tag=tag, simple_value=value)


def image(tag: str, picture: Picture, description: str) -> Value:
    """Return an image with its legend in Markdown."""
    parts = [str(picture.width).encode(), str(picture.height).encode(), picture.content]
    metadata = image_metadata.create_summary_metadata(tag, description)
    metadata.data_class = summary_pb2.DATA_CLASS_BLOB_SEQUENCE
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=_strings(parts))


def precision_recall(tag: str, counts_2T: NDArray[np.integer], description: str) -> Value:
    """Return the precision-recall curve of one class.

    Args:
        counts_2T: true and false positives at evenly spaced thresholds from 0, where everything is positive,
            to 1.
    """
    true_T, false_T = counts_2T.astype(np.float64)
    missed_T, rejected_T = true_T[0] - true_T, false_T[0] - false_T
    precision_T = true_T / np.maximum(true_T + false_T, 1)
    recall_T = true_T / max(true_T[0], 1)
    data_6T = np.stack([true_T, false_T, rejected_T, missed_T, precision_T, recall_T]).astype(np.float32)
    shape = tensor_shape_pb2.TensorShapeProto(
        dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in data_6T.shape]
    )
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_FLOAT, tensor_shape=shape, tensor_content=data_6T.tobytes()
    )
    metadata = pr_curve_metadata.create_summary_metadata(tag, description, data_6T.shape[1])
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def session_start(group: str, hparams: Mapping[str, HParam], start_s: float) -> Value:
    """Return the start of a run: its hyperparameters, and the group of repeats that it belongs to."""
    info = plugin_data_pb2.SessionStartInfo(group_name=group, start_time_secs=start_s)
    for name, value in hparams.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, str):
            info.hparams[name].string_value = value
        else:
            info.hparams[name].number_value = value
    data = plugin_data_pb2.HParamsPluginData(session_start_info=info)
    return _hparams_value(hparams_metadata.SESSION_START_INFO_TAG, data)


def session_end(state: str, end_s: float) -> Value:
    """Return the end of a run, whose state is a key of `SESSION_STATUS`."""
    info = plugin_data_pb2.SessionEndInfo(status=SESSION_STATUS[state], end_time_secs=end_s)
    data = plugin_data_pb2.HParamsPluginData(session_end_info=info)
    return _hparams_value(hparams_metadata.SESSION_END_INFO_TAG, data)


def experiment(domains: Mapping[str, Sequence[HParam]], metrics: Mapping[str, str]) -> Value:
    """Return the one table of hyperparameters.

    Args:
        domains: by hyperparameter, its values in the order to show.
        metrics: by tag, the name of its column.
    """
    message = api_pb2.Experiment()
    for name, values in domains.items():
        column = message.hparam_infos.add(name=name, type=_data_type(values), differs=len(values) > 1)
        column.domain_discrete.extend(values)
    for tag, title in metrics.items():
        message.metric_infos.add(name=api_pb2.MetricName(tag=tag), display_name=title)
    data = plugin_data_pb2.HParamsPluginData(experiment=message)
    return _hparams_value(hparams_metadata.EXPERIMENT_TAG, data)


def layout(categories: Mapping[str, Sequence[Chart]]) -> Value:
    """Return the layout of the custom scalars dashboard."""
    message = layout_pb2.Layout()
    for title, charts in categories.items():
        category = message.category.add(title=title)
        for chart in charts:
            drawn = category.chart.add(title=chart.title)
            if not chart.bands:
                drawn.multiline.tag.extend(chart.tags)
            for value, lower, upper in chart.bands:
                drawn.margin.series.add(value=value, lower=lower, upper=upper)
    metadata = layout_metadata.create_summary_metadata()
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    tensor = _strings([message.SerializeToString()], is_scalar=True)
    return summary_pb2.Summary.Value(tag=layout_metadata.CONFIG_SUMMARY_TAG, metadata=metadata, tensor=tensor)


def _data_type(values: Sequence[HParam]) -> int:
    if all(isinstance(value, bool) for value in values):
        return int(api_pb2.DATA_TYPE_BOOL)
    is_text = any(isinstance(value, str) for value in values)
    return int(api_pb2.DATA_TYPE_STRING if is_text else api_pb2.DATA_TYPE_FLOAT64)


def _hparams_value(tag: str, data: Any) -> Value:  # Any: a message of the plugin
    metadata = hparams_metadata.create_summary_metadata(data)
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=hparams_metadata.NULL_TENSOR)


def _strings(parts: Sequence[bytes], *, is_scalar: bool = False) -> Any:  # Any: the messages have no types
    shape = tensor_shape_pb2.TensorShapeProto()
    if not is_scalar:
        shape.dim.add(size=len(parts))
    return tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_shape=shape, string_val=parts)
