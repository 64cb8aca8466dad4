"""Try every moment of a method on a toy batch, before anything is planned with it.

So wrong return values, errors and draws from a global stream are reported immediately. Properties that depend
on real data are checked again wherever a training calls a moment.

Shape suffixes: L lanes, B items of a batch, C H W image, K classes.
"""

import functools

import numpy as np
import torch
from torch import nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.global_streams import watched_streams
from lt_rebalance.ground.own_file import WrongReturnError, is_own
from lt_rebalance.methods.checking import check_drawn, check_share, check_tensor, synthesize_checked
from lt_rebalance.methods.contract import Method, Mixed
from lt_rebalance.methods.registry import MethodConfig, get_method, plan_rebalancing
from lt_rebalance.networks.heads import find_last_layer
from lt_rebalance.training.batching import example_classifier
from lt_rebalance.training.method import MethodInTraining

LANES = 2
PROGRESS = (0.0, 0.5)


def require_method(config: MethodConfig, spec: DatasetSpec, architecture: str | None) -> None:
    """Raise a ValueError, or the method's own error, unless each of its moments works as required.

    Args:
        architecture: of the classifier that a second training starts from; None if there is none.

    Raises:
        WrongReturnError: a moment returns something else, or uses a global random stream.
    """
    _require(get_method(config.name), config, spec, architecture)


def require_last_layer(config: MethodConfig, spec: DatasetSpec, architecture: str) -> None:
    """Raise a ValueError if a registered method acts on a last linear layer that a network does not have."""
    method = get_method(config.name)
    if method.head is None and method.after is None and method.then is None:
        return
    network, inputs = example_classifier(architecture, spec)
    name, last = find_last_layer(network)
    used: list[nn.Module] = []
    last.register_forward_hook(lambda layer, taken, given: used.append(layer))
    with torch.no_grad():
        network.eval()(*inputs)
    if last.out_features != spec.num_classes or not used:
        raise ValueError(
            f"method {config.name!r} acts on the linear layer that is created last, which must make "
            f"{spec.num_classes} logits, got {name!r} with {last.out_features} outputs"
            f"{'' if used else ', which is not used'}; create the layer of the logits last, or take another "
            "method"
        )
    require_method(config, spec, architecture)


# The method is a separate argument, so that the cache belongs to the method of that name.
@functools.cache
def _require(method: Method, config: MethodConfig, spec: DatasetSpec, architecture: str | None) -> None:
    counts_K = tuple(range(spec.num_classes, 0, -1))
    with watched_streams() as touched:
        plan_rebalancing(
            config.name,
            config.draw,
            counts_K,
            np.random.default_rng(0),
            config.fill_fraction,
            config.options,
        )
    _require_untouched("plan", method.plan, touched)
    acting = MethodInTraining(config, "cross_entropy")
    counts_LK = torch.tensor([counts_K] * LANES)
    if method.order is not None:
        for progress in PROGRESS:
            with watched_streams() as touched:
                acting.find_chances(np.array(counts_K), progress)
            _require_untouched("order", method.order, touched)
    _try_batches(method, acting, config, spec, counts_LK)
    if method.adjust is not None:
        with watched_streams() as touched:
            acting.adjust(_logits(7, spec.num_classes).double(), counts_LK)
        _require_untouched("adjust", method.adjust, touched)
    if method.then is not None:
        with watched_streams() as touched:
            check_share(method.then.budget_share, method.then.budget_share(config.options))
        _require_untouched("then.budget_share", method.then.budget_share, touched)
    if method.synthesize is not None and is_own(config.name):
        _try_synthesis(method, config, spec)
    if architecture is not None and (method.then is not None or method.head is not None):
        _try_network(method, acting, spec, architecture)
    if architecture is not None and method.after is not None:
        _try_after(method, acting, spec, architecture)


def _try_batches(
    method: Method, acting: MethodInTraining, config: MethodConfig, spec: DatasetSpec, counts_LK: torch.Tensor
) -> None:
    """Try `mix` and `loss` on batches of two sizes, the second a final one of one item."""
    for num_items, progress in zip((5 if spec.num_classes != 5 else 6, 1), PROGRESS, strict=True):
        labels_LB = (torch.arange(LANES * num_items) % spec.num_classes).view(LANES, num_items)
        extras = [torch.tensor(progress)] if method.loss is not None else []
        mixed = None
        if method.mix is not None:
            with watched_streams() as touched:
                draw = method.mix.draw
                drawn = [
                    check_drawn(draw, draw(np.random.default_rng(lane), num_items, config.options), num_items)
                    for lane in range(LANES)
                ]
            _require_untouched("mix.draw", draw, touched)
            extras += [
                acting.to_tensor(np.stack(each), torch.device("cpu")) for each in zip(*drawn, strict=True)
            ]
            with watched_streams() as touched:
                images_LBCHW = torch.zeros(LANES, num_items, *spec.image_shape)
                mixed = acting.mix(images_LBCHW, labels_LB, counts_LK, extras)
            _require_untouched("mix.apply", method.mix.apply, touched)
            _require_trainable(method.mix.apply, mixed, spec.num_classes)
        if method.loss is not None:
            logits_LBK = _logits(num_items, spec.num_classes).requires_grad_()
            with watched_streams() as touched:
                losses_LB = acting.losses(logits_LBK, labels_LB, counts_LK, extras, mixed)
            _require_untouched("loss", method.loss, touched)
            if not losses_LB.requires_grad:
                words = f"loss must return losses_LB of shape {tuple(labels_LB.shape)} with a gradient"
                raise WrongReturnError(method.loss, f"{words}, got none; leave out detach() and no_grad()")


def _require_trainable(function: object, mixed: Mixed | None, num_classes: int) -> None:
    """Raise a WrongReturnError unless a network can be trained on a mixed batch."""
    assert mixed is not None
    if mixed.images_LBCHW.dtype != torch.float32:
        words = "mix.apply must return a Mixed with images_LBCHW as float32"
        raise WrongReturnError(function, f"{words}, got {mixed.images_LBCHW.dtype}")
    low, high = int(mixed.labels_LBP.min()), int(mixed.labels_LBP.max())
    if not 0 <= low <= high < num_classes:
        words = f"mix.apply must return a Mixed with labels_LBP from 0 to {num_classes - 1}"
        raise WrongReturnError(function, f"{words}, got {low} to {high}")


def _try_synthesis(method: Method, config: MethodConfig, spec: DatasetSpec) -> None:
    """Have images made for all classes but the first, a dozen each."""
    rng = np.random.default_rng(0)
    shape = (12, *spec.image_shape)
    images_by_class = [rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(min(spec.num_classes, 3))]
    with watched_streams() as touched:
        synthesize_checked(
            method.synthesize, images_by_class, [0, 2, 1][: spec.num_classes], rng, config.options
        )
    _require_untouched("synthesize", method.synthesize, touched)


def _try_network(method: Method, acting: MethodInTraining, spec: DatasetSpec, architecture: str) -> None:
    """Give a network the head, prepare it as the start of a second training, and let it answer as in one."""
    network, inputs = example_classifier(architecture, spec)
    with watched_streams() as touched:
        acting.prepare(network, 0, None)
        with torch.no_grad():
            network.train()(*inputs)
    name = "then.prepare" if method.then is not None else "head"
    _require_untouched(name, method.then.prepare if method.then is not None else method.head, touched)
    if method.then is not None and not any(each.requires_grad for each in network.parameters()):
        words = "then.prepare must leave a parameter to train"
        raise WrongReturnError(
            method.then.prepare, f"{words}, got a network of which none requires a gradient"
        )
    if method.head is not None:
        with torch.no_grad():
            logits_NK = network.eval()(*inputs)
        shape = (len(inputs[0]), spec.num_classes)
        check_tensor(method.head, "head must make a layer that returns logits_NK", logits_NK, shape)


def _try_after(method: Method, acting: MethodInTraining, spec: DatasetSpec, architecture: str) -> None:
    """Change a network as if it had been trained, and let it answer."""
    network, inputs = example_classifier(architecture, spec)
    means_KF = torch.ones(spec.num_classes, find_last_layer(network)[1].in_features)
    with watched_streams() as touched:
        changed = acting.change(network, lambda: means_KF)
    _require_untouched("after", method.after, touched)
    with torch.no_grad():
        logits_NK = changed.eval()(*inputs)
    shape = (len(inputs[0]), spec.num_classes)
    check_tensor(method.after, "after must leave a network that returns logits_NK", logits_NK, shape)


def _logits(num_items: int, num_classes: int) -> torch.Tensor:
    stream = torch.Generator().manual_seed(0)
    return torch.randn(LANES, num_items, num_classes, generator=stream)


def _require_untouched(moment: str, function: object, touched: list[str]) -> None:
    if touched:
        raise WrongReturnError(
            function,
            f"{moment} must not draw from or set the global random stream of {' and '.join(touched)}: the "
            "results of a seed would depend on other runs; draw from the stream argument of plan, "
            "synthesize, mix.draw and then.prepare, start a head from the weights of the layer that it "
            "replaces, and use Dropout of networks/dropout.py for nn.Dropout",
        )
