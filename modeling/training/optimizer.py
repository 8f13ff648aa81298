"""The AdamW of the transformers library, which VIP5 used, and a linear schedule with warm-up.

Differs from torch.optim.AdamW in two ways that change results: eps is added to the root of the uncorrected second
moment, and weight decay is applied after the step, to the updated value. torch's fused Adam computes the moments.
"""

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from modeling.models.vip5 import is_norm


class TransformersAdamW:
    """Step t: p -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps); then p -= lr weight_decay p.

    Args:
        named: names and parameters to train; biases never decay.
        betas: decay rates of m and v.
        eps: added to sqrt(v).
        weight_decay: multiplied by the learning rate.
        decay_norms: whether layer norm weights decay, as in the paper.
        undecayed: names of further parameters that do not decay, such as tables of which only some rows are trained.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        decay_norms: bool = False,
        undecayed: Collection[str] = (),
    ) -> None:
        pairs = list(named)
        self.names = [name for name, _ in pairs]
        self.parameters = [parameter for _, parameter in pairs]
        self.decayed: list[Tensor] = [
            p for name, p in pairs if decays(name, decay_norms=decay_norms) and name not in undecayed
        ]
        self.betas, self.eps, self.weight_decay, self.steps = betas, eps, weight_decay, 0
        self.adam = torch.optim.Adam(self.parameters, betas=betas, eps=eps, fused=True)

    def step(self, learning_rate: float, clip_norm: float) -> Tensor:
        """Takes one step, clears the gradients and returns the global gradient norm before clipping.

        If the norm is not finite, only the step count changes; this needs no synchronisation with the device.
        """
        norm = nn.utils.clip_grad_norm_(self.parameters, clip_norm)
        bad = 1.0 - norm.isfinite().float()
        self.adam.found_inf = bad  # type: ignore[attr-defined]  # torch's fused Adam then skips the step
        self.steps += 1
        group = self.adam.param_groups[0]
        group["lr"] = learning_rate
        # torch divides sqrt(v) by sqrt(1 - b2^t) before adding eps.
        group["eps"] = self.eps / (1 - self.betas[1] ** self.steps) ** 0.5
        self.adam.step()
        with torch.no_grad():
            if self.decayed:
                torch._foreach_mul_(self.decayed, 1 - learning_rate * self.weight_decay * (1 - bad))
        self.adam.zero_grad(set_to_none=True)
        return norm

    def moments(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Both moments by parameter (`first:NAME`, `second:NAME`), and the number of steps of each parameter."""
        tensors: dict[str, Tensor] = {}
        seen: dict[str, float] = {}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if state := self.adam.state.get(parameter):
                tensors |= {f"first:{name}": state["exp_avg"], f"second:{name}": state["exp_avg_sq"]}
                seen[name] = float(state["step"])
        return tensors, seen

    def restore(self, tensors: Mapping[str, Tensor], seen: Mapping[str, float], steps: int) -> None:
        """Restores what `moments` returned, and the number of steps so far."""
        self.steps = steps
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if name in seen:
                self.adam.state[parameter] = {
                    "step": torch.tensor(seen[name], device=parameter.device),
                    "exp_avg": tensors[f"first:{name}"].to(parameter.device),
                    "exp_avg_sq": tensors[f"second:{name}"].to(parameter.device),
                }


def decays(name: str, *, decay_norms: bool) -> bool:
    """Whether weight decay applies to the parameter called `name`.

    Example: "adapters.encoder_0_feed_forward.up_bias" never, "t5.encoder.final_layer_norm.weight" only in the paper.
    """
    return not name.endswith("bias") and (decay_norms or not is_norm(name))


def rate_share(progress: float, warmup_share: float) -> float:
    """Learning rate at `progress` (0 to 1) of the run, as a share of its maximum: linear warm-up, linear decay.

    Example: with a warm-up of 0.1, progress 0.05 -> 0.5, 0.1 -> 1.0, 0.55 -> 0.5, 1.0 -> 0.0.
    """
    if progress < warmup_share:
        return progress / warmup_share
    return (1 - progress) / (1 - warmup_share) if warmup_share < 1 else 1.0
