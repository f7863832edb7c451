"""For the tests of alfw and of plug-ins: contract checks of models, programs that replay recorded outputs."""

from alfw.testing.contract import ContractError, Report, check_model, check_potential
from alfw.testing.examples import example_data
from alfw.testing.programs import FakeProgram, Replay, fake_program

__all__ = [
    "ContractError",
    "FakeProgram",
    "Replay",
    "Report",
    "check_model",
    "check_potential",
    "example_data",
    "fake_program",
]
