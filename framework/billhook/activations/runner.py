"""Runner: calls the layers of a model one at a time, on a stream that it is handed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from billhook.data.tokens import TokenBatch
from billhook.errors import UnsupportedArchitecture
from billhook.model.adapter import Adapter
from billhook.model.branch import Branch
from billhook.model.positions import refuse_long_rows
from billhook.model.view import ModelView


@attrs.frozen(eq=False)
class OpenBatch:
    """A batch that is ready for its first layer.

    Attributes:
        tokens: the batch, on the model's device.
        stream: what enters layer 0, ``[batch, seq, d_model]``.
        calls: by original layer number, the further arguments of that layer's forward (masks, positions: they
            differ between kinds of layer).
    """

    tokens: TokenBatch
    stream: Tensor
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]]


@attrs.frozen(eq=False)
class Written:
    """What one branch of one layer wrote to the stream.

    Attributes:
        output: what was added to the stream, scale included, ``[batch, seq, d_model]``, float32.
        inner: what the writer read, ``[batch, seq, d_inner]``, the model's dtype.
        after: the stream right behind the branch, ``[batch, seq, d_model]``, float32.
        leaving: the stream after the layer, ``[batch, seq, d_model]``, the model's dtype.
    """

    output: Tensor
    inner: Tensor
    after: Tensor
    leaving: Tensor


class Runner:
    """Runs single layers of a dense model, and of the models cut from it, on cached streams.

    A *skeleton* (a copy of the model whose layers are replaced by recorders) does what stands before and after
    the layers: it embeds, builds masks and positions, and applies final norm and head. So no adapter has to
    describe those, and the user's model is never touched.
    """

    def __init__(self, dense: ModelView) -> None:
        skeleton = dense.copy()
        self._recorders = [_Recorder(skeleton, number) for number in dense.numbers]
        skeleton.adapter.replace_layers(skeleton.model, nn.ModuleList(self._recorders))
        self._skeleton = skeleton
        self._numbers = dense.numbers
        self.layer_tokens = 0
        """Tokens run through a layer so far, summed over layers: what the work costs, whatever the machine."""

    @torch.no_grad()
    def open(self, batch: TokenBatch) -> OpenBatch:
        """Embed a batch and record every layer's arguments.

        Raises:
            UnsupportedArchitecture: the model does not call its layers with a stream as first argument.
            CalibrationError: the rows are longer than the model's table of positions.
        """
        refuse_long_rows(self._skeleton.model, batch.ids.shape[1])
        batch = batch.to(self._skeleton.device)
        with self._injected(None):
            # the base model: the head over all tokens would cost a fifth of a small model's forward
            self._skeleton.model.base_model(input_ids=batch.ids, attention_mask=batch.attention_mask, use_cache=False)
            calls = {n: r.call for n, r in zip(self._numbers, self._recorders, strict=True) if r.call is not None}
            stream = self._recorders[0].entered
        if stream is None or len(calls) != len(self._numbers):
            raise UnsupportedArchitecture(
                f"{type(self._skeleton.model).__name__} does not hand each layer the stream as first argument. "
                f"Write an adapter whose layer list holds layers that are called in order."
            )
        return OpenBatch(batch, stream, calls)

    @torch.no_grad()
    def run(self, view: ModelView, number: int, batch: OpenBatch, stream: Tensor) -> Tensor:
        """The stream after layer ``number`` of ``view``, given the one that enters it."""
        return self.call(view.adapter, view.layer(number), number, batch, stream)

    @torch.no_grad()
    def call(self, adapter: Adapter, layer: nn.Module, number: int, batch: OpenBatch, stream: Tensor) -> Tensor:
        """The stream after ``layer``, called as layer ``number`` is."""
        args, kwargs = batch.calls[number]
        self.layer_tokens += stream.shape[0] * stream.shape[1]
        return adapter.stream(layer(stream, *args, **kwargs))

    @torch.no_grad()
    def run_recording(self, view: ModelView, number: int, branch: Branch, batch: OpenBatch, stream: Tensor) -> Written:
        """Like :meth:`run`, and what ``branch`` wrote."""
        return self.run_recording_all(view, number, [branch], batch, stream)[branch]

    @torch.no_grad()
    def run_recording_all(
        self, view: ModelView, number: int, branches: Iterable[Branch], batch: OpenBatch, stream: Tensor
    ) -> dict[Branch, Written]:
        """Like :meth:`run`, and what each of ``branches`` (at least one, all there) wrote."""
        layer, adapter = view.layer(number), view.adapter
        notes: dict[Branch, _Notes] = {branch: _Notes() for branch in branches}
        handles = []
        for branch, note in notes.items():
            handles.append(view.writer(number, branch).register_forward_pre_hook(note.before))
            handles.append(layer.get_submodule(adapter.output(layer, branch)).register_forward_hook(note.after))
        try:
            leaving = self.run(view, number, batch, stream)
        finally:
            for handle in handles:
                handle.remove()
        return {b: note.written(b, adapter.scale(layer, b), stream, leaving) for b, note in notes.items()}

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor:
        """Final norm and head on tokens that left the last layer: ``[tokens, d_model]`` to ``[tokens, vocab]``.

        Callers hand in a few at a time, so that logits of a whole data set never exist.
        """
        # each token as a row of its own: norm and head do not mix tokens, and no position table is too short
        ids = torch.ones((len(tokens), 1), dtype=torch.long, device=self._skeleton.device)
        with self._injected(tokens[:, None]):
            logits: Tensor = self._skeleton.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False
            ).logits
        return logits[:, 0]

    @contextmanager
    def _injected(self, stream: Tensor | None) -> Iterator[None]:
        self._recorders[0].injected = stream
        try:
            yield
        finally:
            for recorder in self._recorders:
                recorder.injected = recorder.entered = recorder.call = None


class _Notes:
    """Hooks on one branch."""

    def __init__(self) -> None:
        self._inner = self._output = torch.empty(0)

    def before(self, writer: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Of its writer."""
        self._inner = args[0].detach()

    def after(self, last: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Of its last module."""
        # a copy in any case: Falcon adds to this very tensor in place
        self._output = output.detach().to(torch.float32, copy=True)

    def written(self, branch: Branch, scale: float, entering: Tensor, leaving: Tensor) -> Written:
        """What was seen, as shapes ``[batch, seq, ...]``."""
        output = self._output.reshape(leaving.shape) * scale  # OPT flattens batch and seq in its MLP
        after = leaving.to(torch.float32) if branch == "mlp" else entering.to(torch.float32) + output
        inner = self._inner.reshape(*leaving.shape[:-1], -1)
        return Written(output=output, inner=inner, after=after, leaving=leaving)


class _Recorder(nn.Module):
    """Stands in a layer's place: notes its arguments and passes the stream on, or another one in its stead."""

    def __init__(self, view: ModelView, number: int) -> None:
        super().__init__()
        self._adapter = view.adapter
        self.injected: Tensor | None = None
        self.entered: Tensor | None = None
        self.call: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        for name, value in vars(view.layer(number)).items():
            if isinstance(value, str | int | bool) and not name.startswith("_") and name != "training":
                setattr(self, name, value)  # Gemma's forward asks its layers for their attention_type

    def forward(self, stream: Tensor, *args: Any, **kwargs: Any) -> object:
        self.entered = stream
        self.call = (args, kwargs)
        return self._adapter.as_layer_output(stream if self.injected is None else self.injected)
