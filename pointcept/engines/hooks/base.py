"""What a hook is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pointcept.engines.loop import Trainer


class Hook:
    """Something that happens at certain moments of training. Override the moments that matter.

    Hooks are called in the order of the config. They talk through named attributes of the trainer (``metrics``,
    ``records``, ...), never through a shared dict. A hook that needs another looks for it in ``before_train`` with
    :meth:`require` and so fails before anything was computed.

    Attributes:
        trainer: set by the trainer before ``before_train``.
    """

    trainer: "Trainer"

    def before_train(self) -> None:
        """Called once, after everything is built and, on a resume, restored."""

    def before_epoch(self) -> None:
        """Called before the first step of a reported epoch, and when one goes on after a resume."""

    def before_step(self) -> None:
        """Called before each optimizer step."""

    def after_step(self) -> None:
        """Called after each optimizer step."""

    def after_epoch(self) -> None:
        """Called after the last step of a reported epoch."""

    def after_train(self) -> None:
        """Called once at the end, after an error too; ``trainer.is_finished`` tells which."""

    def state_dict(self) -> dict[str, Any]:
        """What has to survive an interruption, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` returned."""

    def require(self, hook_type: type["Hook"], *, before: bool = False) -> "Hook":
        """The first hook of another type.

        Args:
            hook_type: the class of the needed hook.
            before: whether it must come earlier in the list than this one.

        Raises:
            ValueError: there is none, or it comes too late.
        """
        name, other = type(self).__name__, hook_type.__name__
        found = self.trainer.find_hook(hook_type)
        if found is None:
            listed = ", ".join(type(hook).__name__ for hook in self.trainer.hooks)
            raise ValueError(
                f"{name} needs the hook {other}: hooks are {listed}. Add dict(type={other!r}, ...) to them."
            )
        if before and self.trainer.hooks.index(found) > self.trainer.hooks.index(self):
            raise ValueError(f"{other} must come before {name} in hooks: it comes after it. Swap them.")
        return found
