"""`prepare_qm_inputs`: one input a structure for ORCA, Gaussian, Q-Chem or Psi4."""

from __future__ import annotations

from argparse import BooleanOptionalAction, Namespace
from pathlib import Path

from alfw.compat._shell import CHECK_FAILED, OK, Parser, leave, say, show, show_refused
from alfw.core.records import Resources
from alfw.io.named import named_frames
from alfw.steps.qm_folder import write_folder

RUN = {
    "orca": "for inp in *.inp; do orca $inp > ${inp%.inp}.out; done",
    "gaussian": "for inp in *.com; do g16 < $inp > ${inp%.com}.log; done",
    "qchem": "for inp in *.in; do qchem $inp ${inp%.in}.out; done",
    "psi4": "for inp in *.dat; do psi4 -i $inp -o ${inp%.dat}.out; done",
}


WITH_ESP = ("orca", "psi4")


def parser() -> Parser:
    """The flags."""
    parser = Parser("prepare_qm_inputs", "One input a structure, with energy, forces and dipole.")
    parser.add_argument("--xyz-dir", required=True, metavar="DIR", help="structures; or a file, or a glob")
    parser.add_argument("--qm-software", required=True, choices=list(RUN))
    parser.add_argument("--method", default="PBE0")
    parser.add_argument("--basis", default="def2-TZVP")
    parser.add_argument("--calc-esp", action=BooleanOptionalAction, help="with orca and psi4")
    parser.add_argument("--calc-dipole", action=BooleanOptionalAction, default=True, help="it comes anyway")
    parser.add_argument("--output", type=Path, default=Path("./qm_inputs"), metavar="DIR")
    parser.add_argument("--charge", type=int, default=0, help="of structures that do not say")
    parser.add_argument("--multiplicity", type=int, default=1, help="2S + 1, of structures that do not say")
    parser.add_argument("--threads", type=int, default=1, help="processes of one calculation")
    parser.add_argument("--mem-GB", type=float, dest="mem_GB", help="memory of one calculation")
    parser.add_argument("--force", action="store_true", help="replace inputs that are there")
    return parser


def work(arguments: Namespace) -> int:
    """Write the inputs, list what cannot be done; the exit code."""
    folder = Path(arguments.xyz_dir)
    wanted = folder / "*xyz" if folder.is_dir() else folder  # .xyz and .extxyz
    frames = named_frames([wanted], arguments.charge, arguments.multiplicity)
    code = arguments.qm_software
    options = {"kind": code, "method": arguments.method, "basis": arguments.basis}
    esp = bool(arguments.calc_esp) and code in WITH_ESP
    if esp:
        options["esp"] = {}
    resources = Resources(threads=arguments.threads, mem_GB=arguments.mem_GB)
    written = write_folder(arguments.output, frames, options, resources, arguments.force)
    show(f"{arguments.output}: {len(written.stems)} inputs for {code}")
    show_refused(written.refused)
    if written.stems and esp:
        say(f"next: alfw qm run {arguments.output}; the ESP takes more than one step")
    elif written.stems:
        if arguments.calc_esp is not False:
            how = "; --calc-esp does" if code in WITH_ESP else f", nor can {code} here"
            say(f"note: these inputs give no ESP{how}")
        say(f"next: cd {arguments.output}; {RUN[code]}")
        say(f"or, with remedies for what fails: alfw qm run {arguments.output}")
    return CHECK_FAILED if written.refused else OK


if __name__ == "__main__":
    leave(parser(), work)
