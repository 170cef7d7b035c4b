"""The reference itself: against a layer computed by hand."""

from __future__ import annotations

import torch
from tests.framework.activations.naive import forward

from billhook import DropLayers, LinearMap
from billhook.model.inserted import insert_after
from billhook.testing import linearised, random_map, tiny_tokens, tiny_view


def test_the_stream_after_the_gap_is_skip_plus_the_mapped_addition() -> None:
    view, (batch,) = tiny_view("granite", mlp_bias=True), tiny_tokens().batches(100)
    linear_map = random_map(view.d_model, bias=True)
    dense = forward(view, batch)
    reference = view.copy()
    reference.model = linearised(view, DropLayers(1, 3), linear_map)
    after = forward(reference, batch).streams[3].double()
    added = dense.written[0].double()
    wanted = dense.streams[1].double() - added + linear_map(added)
    # float32 streams
    torch.testing.assert_close(after, wanted, rtol=1e-5, atol=1e-5)


def test_it_agrees_with_inserting_a_layer_and_skipping_by_hand() -> None:
    view, (batch,) = tiny_view("gpt_neox"), tiny_tokens().batches(100)
    linear_map = random_map(view.d_model, bias=True)
    by_hand = view.copy()
    insert_after(by_hand.layer(1), by_hand.adapter.output(by_hand.layer(1), "mlp"), linear_map)
    by_hand.drop_layers([2])
    with torch.no_grad():
        found = linearised(view, DropLayers(2, 3), linear_map)(batch.ids, use_cache=False).logits
        wanted = by_hand.model(batch.ids, use_cache=False).logits
    # float32; the inserted layer computes in float32, the reference in float64
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_model_it_is_made_from_stays_as_it_is() -> None:
    view, (batch,) = tiny_view("falcon"), tiny_tokens().batches(100)
    before = forward(view, batch).logits
    linearised(view, DropLayers(1, 3), LinearMap(torch.zeros(16, 16)))
    assert torch.equal(forward(view, batch).logits, before)


def test_without_a_map_and_with_the_identity_it_is_the_same() -> None:
    view, (batch,) = tiny_view("opt"), tiny_tokens().batches(100)
    identity = LinearMap(torch.eye(view.d_model))
    with torch.no_grad():
        plain, mapped = (linearised(view, DropLayers(1, 2), m)(batch.ids).logits for m in (None, identity))
    assert torch.equal(plain, mapped)
