"""Where networks run."""

import torch

from spheremap.errors import InputError

HELP = "where networks run: auto, cpu, cuda or cuda:N (default: auto)"


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU if there is one, else the CPU.

    Raises:
        InputError: if the name is none or the device cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} cannot be used",
            expected="auto, cpu, cuda or cuda:N",
            found=str(error).splitlines()[0],
            fix="correct `device` in params.yaml",
        ) from error
    return device
