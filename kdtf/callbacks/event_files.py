"""Event files of TensorBoard: what goes into them, and how it gets there whole."""

import io
import os
import socket
import time
from pathlib import Path

import PIL.Image
import tensorflow as tf
from tensorboard.compat.proto import event_pb2, graph_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.histogram import summary_v2 as histogram_summary
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import summary_v2 as scalar_summary
from tensorboard.plugins.text import summary_v2 as text_summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from kdtf import files, layer_graph

OUTCOME = ".outcome"


class EventLog:
    """Appends steps to a run of TensorBoard.

    Args:
      folder: the run's folder; made if missing.
      first_step: the step to come next. What earlier files hold from this step on is removed: a
        process that was killed had written it.
    """

    def __init__(self, folder, first_step):
        _forget(Path(folder), first_step)
        self._writer = EventFileWriter(str(folder))
        # Tells a TensorBoard that is running to forget the same.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.add_event(
            event_pb2.Event(wall_time=time.time(), step=first_step, session_log=start)
        )

    def add(self, step, summaries):
        """Writes summaries of a step as one record, which a reader gets whole or not at all."""
        self._writer.add_event(_event(step, summaries))
        self._writer.flush()

    def add_graph(self, graph):
        """Writes what `graph_def` gave; a run has one."""
        content = graph.SerializeToString()
        self._writer.add_event(event_pb2.Event(wall_time=time.time(), graph_def=content))

    def close(self):
        self._writer.close()


def write_hparams(folder, summaries):
    """Writes summaries of step 0 to a file of their own, in place of an earlier one.

    Args:
      folder: a run's folder; made if missing.
      summaries: list as the functions below return them.
    """
    folder = Path(folder)
    earlier = set(folder.glob(f"*{OUTCOME}"))
    name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}"
    path = folder / (name + OUTCOME)
    version = event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")
    with files.atomic_write(path) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
        for event in (version, _event(0, summaries)):
            writer.write(event.SerializeToString())
    for file in earlier - {path}:
        file.unlink()


def scalar(tag, value, description=None):
    """Summary of a number."""
    return scalar_summary.scalar_pb(tag, float(value), description)


def histogram(tag, values, description=None):
    """Summary of the distribution of float [n], n at least 1."""
    return histogram_summary.histogram_pb(tag, values, description=description)


def text(tag, markdown, description=None):
    """Summary of a text in Markdown."""
    return text_summary.text_pb(tag, markdown, description)


def image(tag, png, description=None):
    """Summary of a picture, given as the bytes of a PNG file."""
    with PIL.Image.open(io.BytesIO(png)) as opened:
        width, height = opened.size
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
    tensor.tensor_shape.dim.add(size=3)
    tensor.string_val.extend([str(width).encode(), str(height).encode(), png])
    metadata = image_metadata.create_summary_metadata(
        display_name=None, description=description, converted_to_tensor=True
    )
    return summary_pb2.Summary(
        value=[summary_pb2.Summary.Value(tag=tag, tensor=tensor, metadata=metadata)]
    )


def charts(title, tags):
    """Summary that lays out charts of several scalars each, for the tab of custom scalars.

    Args:
      title: of the group of charts.
      tags: {title of a chart: regular expression of the tags it shows, of all runs}.
    """
    layout = layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title=title,
                chart=[
                    layout_pb2.Chart(
                        title=name, multiline=layout_pb2.MultilineChartContent(tag=[pattern])
                    )
                    for name, pattern in tags.items()
                ],
            )
        ]
    )
    return custom_scalar.pb(layout)


def graph_def(model):
    """GraphDef of a functional model of either Keras: a node for each layer, with output shapes.

    A layer that tfmot wrapped goes by the class inside.
    """
    graph = graph_pb2.GraphDef()
    listed = {layer.name for layer in model.layers}
    for name, layer in layer_graph.nodes(model, shared=True).items():
        node = graph.node.add(name=name, op=type(layer.inner).__name__, input=layer.inputs)
        if name not in listed:  # the input of a Sequential model, or an operation of keras.ops
            continue
        node.attr["parameters"].i = layer.layer.count_params()
        shapes = node.attr["_output_shapes"].list.shape
        for tensor in tf.nest.flatten(layer.layer.output):
            shape = shapes.add()
            for size in tensor.shape:
                shape.dim.add(size=-1 if size is None else size)
    return graph


def _forget(folder, first_step):
    for path in folder.glob("events.out.tfevents.*"):
        if path.name.endswith(OUTCOME):
            continue
        records, void = [], False
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                late = event_pb2.Event.FromString(record).step >= first_step
                void = void or late
                records += [] if late else [record]
        except tf.errors.DataLossError:  # the last record of a killed process is incomplete
            void = True
        if void:
            with files.atomic_write(path) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
                for record in records:
                    writer.write(record)


def _event(step, summaries):
    together = summary_pb2.Summary()
    for summary in summaries:
        # Some helpers return TensorBoard's class of the message, some TensorFlow's.
        together.MergeFromString(summary.SerializeToString())
    return event_pb2.Event(wall_time=time.time(), step=step, summary=together)
