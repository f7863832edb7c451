"""Hand-made OUTCAR and vasprun.xml: the lines that a reader looks at, laid out as VASP 6 does (after its wiki).

And a fake VASP that leaves them, with hand-made POTCARs.
"""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols

from alfw.core.errors import LabelError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Resources
from alfw.labelers._vasp_input import grouped
from alfw.labelers.vasp import VASPLabeler
from alfw.testing import Replay, fake_program

ZVAL = {"Si": 4.0, "O": 6.0, "Fe": 8.0}
HEAD = """ vasp.6.4.2 20Jul23 (build Oct 18 2023 14:14:43) complex

 executed on             LinuxIFC date 2024.05.09  11:39:43
 INCAR:
   ENCUT = 520
{more}
{potcars}
   number of dos      NEDOS =    301   number of ions     NIONS = {n:>6}
   ions per type =     {counts}

 Startparameter for this run:
   PREC   = accura    normal or accurate (medium, high low for compatibility)
   ICHARG = {icharg:>6}    charge: 1-file 2-atom 10-const
   ISPIN  = {ispin:>6}    spin polarized calculation?
   ENCUT  =  520.0 eV  38.22 Ry    6.18 a.u.   7.23  7.23  7.23*2*pi/ulx,y,z
   NELM   = {nelm:>6};   NELMIN=  2; NELMDL=  0     # of ELM steps
   EDIFF  = 0.1E-05   stopping-criterion for ELM
   LREAL  =      F    real-space projection
   SCALEE = 1.0000    scale energy and forces
   PSTRESS= {pstress:>6.1f} pullay stress
  Ionic Valenz
   ZVAL   = {zvals}
  virtual crystal weights
   VCA    = {weights}
   NELECT = {nelect:>12.4f}    total number of electrons
   NUPDOWN= {nupdown:>12.4f}    fix difference up-down
   ISMEAR =     0;   SIGMA  =   0.05  broadening in eV -4-tet -1-fermi 0-gaus
   GGA     =    --    GGA type

"""
CYCLE = f"\n{39 * '-'} Iteration {{step:>6}}({{cycle:>4}})  {39 * '-'}\n\n"
FINAL = """
------------------------ {ended} ----------------------------------------

  in kB  {kbar}
 VOLUME and BASIS-vectors are now :
      direct lattice vectors                 reciprocal lattice vectors
{cell}

 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
{atoms}
 -----------------------------------------------------------------------------------
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  = {energy:>20.8f} eV

"""
TAIL = """
 General timing and accounting informations for this job:
 ========================================================
                         Elapsed time (sec):       18.865
                 Voluntary context switches:         1580
"""
REACHED = "aborting loop because EDIFF is reached"
UNCONVERGED = "aborting loop EDIFF was not reached (unconverged)"


def made(frame, energy, forces, stress, *, cycles=8, ended=REACHED, more="", **tags):
    """{OUTCAR, vasprun.xml} of one static calculation; forces (n, 3) eV/Å and stress (3, 3) kB in VASP's own sign."""
    order = grouped(frame)
    symbols = [chemical_symbols[frame.numbers[i]] for i in order]
    elements = list(dict.fromkeys(symbols))
    counts = [symbols.count(element) for element in elements]
    valence = sum(ZVAL[symbol] for symbol in symbols)
    values = {"icharg": 2, "ispin": 1, "nelm": 100, "pstress": 0.0, "nupdown": -1.0, "nelect": valence} | tags
    positions, forces = frame.positions[order], np.asarray(forces)[order]
    outcar = HEAD.format(
        potcars="\n".join(f"   VRHFIN ={e}: s2p2\n   TITEL  = PAW_PBE {e} 05Jan2001   " for e in elements),
        n=len(frame),
        counts=" ".join(f"{count:>4}" for count in counts),
        zvals="".join(f"{ZVAL[element]:6.2f}" for element in elements),
        weights="".join(f"{1:6.2f}" for _ in elements),
        more=more,
        **values,
    )
    outcar += "".join(CYCLE.format(step=1, cycle=i + 1) for i in range(cycles))
    outcar += FINAL.format(
        ended=ended,
        kbar="".join(f"{stress[i][j]:12.5f}" for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))),
        cell="\n".join(" " + "".join(f"{x:13.9f}" for x in (*row, 0.0, 0.0, 0.0)) for row in frame.cell),
        atoms="\n".join(
            "".join(f"{x:13.5f}" for x in r) + "   " + "".join(f"{x:14.6f}" for x in f)
            for r, f in zip(positions, forces, strict=True)
        ),
        energy=energy,
    )
    xml = xml_of(frame, order, symbols, elements, energy, forces, stress, cycles, values)
    return {"OUTCAR": (outcar + TAIL).encode(), "vasprun.xml": xml.encode()}


def xml_of(frame, order, symbols, elements, energy, forces, stress, cycles, values):
    """The vasprun.xml."""

    def rows(name, array):
        lines = "".join(f"<v> {' '.join(f'{x:16.8f}' for x in row)} </v>\n" for row in array)
        return f'<varray name="{name}" >\n{lines}</varray>\n'

    def item(name, value):
        return f'<i name="{name}">{value}</i>\n'

    tags = {"ENMAX": 520.0, "NELM": values["nelm"], "EDIFF": 1e-6, "ISPIN": values["ispin"], "PREC": "accura"}
    tags |= {"NELECT": values["nelect"], "NUPDOWN": values["nupdown"], "ICHARG": values["icharg"]}
    tags |= {
        "ISMEAR": 0,
        "SIGMA": 0.05,
        "LREAL": "F",
        "PSTRESS": values["pstress"],
        "SCALEE": 1.0,
        "GGA": "--",
    }
    atoms = "".join(f"<rc><c>{s:2s}</c><c>{elements.index(s) + 1}</c></rc>" for s in symbols)
    types = "".join(
        f"<rc><c>{symbols.count(e)}</c><c>{e}</c><c>28.0</c><c>{ZVAL[e]}</c><c> PAW_PBE {e} 05Jan2001 </c></rc>"
        for e in elements
    )
    loop = "".join(
        f"<scstep><energy>{item('e_fr_energy', f'{energy + 0.1 ** (i + 1):.8f}')}</energy></scstep>\n"
        for i in range(1, cycles)
    )
    loop += f"<scstep><energy>{item('e_fr_energy', f'{energy:.8f}')}</energy></scstep>\n"
    fractional = frame.positions[order] @ np.linalg.inv(frame.cell)
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n<generator>'
        '<i name="program" type="string">vasp </i><i name="version" type="string">6.4.2  </i></generator>\n'
        f"<parameters>{''.join(item(k, v) for k, v in tags.items())}</parameters>\n<atominfo>"
        f'<array name="atoms"><set>{atoms}</set></array><array name="atomtypes"><set>{types}</set></array></atominfo>\n'
        f"<calculation>{loop}<structure><crystal>{rows('basis', frame.cell)}</crystal>\n"
        f"{rows('positions', fractional)}</structure>{rows('forces', forces)}{rows('stress', stress)}"
        f"<energy>{item('e_fr_energy', f'{energy:.8f}')}</energy></calculation>\n</modeling>\n"
    )


POTCARS = {
    symbol: f"  PAW_PBE {symbol} 05Jan2001\n {zval}\n parameters from PSCTR are:\n   VRHFIN ={symbol}: s2p2\n"
    f"   LEXCH  = PE\n   TITEL  = PAW_PBE {symbol} 05Jan2001\n   POMASS =   28.085; ZVAL   =    {zval}    mass\n"
    " END of PSCTR-controll parameters\n local part\n  0.1E+01  0.2E+01  0.3E+01\n End of Dataset\n"
    for symbol, zval in (("Si", "4.000"), ("O", "6.000"), ("Fe", "8.000"))
}  # hand-made: how a POTCAR begins and ends
OPTIONS = {
    "kind": "vasp",
    "incar": {"ENCUT": 520, "ISMEAR": 0, "SIGMA": 0.1},
    "kpoints": {"grid": [3, 3, 3]},
    "pseudopotentials": {"Si": "Si", "O": {"file": "O/POTCAR"}, "Fe": "Fe"},
}
CELL = np.diag([4.0, 4.1, 4.2])
QUARTZ = Frame(
    numbers=[8, 14, 8], positions=[[0.1, 0.2, 0.3], [2, 0, 0], [0.1, 2.2, 0]], cell=CELL, pbc=[True] * 3
)
FORCES, KBAR = np.arange(9.0).reshape(3, 3) / 10, np.diag([1.0, 2.0, 3.0])
GOOD = Replay(files=made(QUARTZ, -20.0, FORCES, KBAR), stdout=b" running    8 mpi-ranks, on    1 nodes\n")
TETRAHEDRON = Replay(
    stdout=b" Tetrahedron method fails (number of k-points < 4)\n", code=1
)  # hand-made, and so on
POTRF = Replay(stdout=b" LAPACK: Routine ZPOTRF failed!           3           0           0\n", code=1)
UNFINISHED = Replay(files=made(QUARTZ, -20.0, FORCES, KBAR, cycles=100, ended=UNCONVERGED))
ABORTED = Replay(stdout=b"mpirun noticed that process rank 3 with PID 0 exited on signal 11\n", code=139)


def labeler(**options):
    """A labeler with some of these options."""
    return VASPLabeler.model_validate(OPTIONS | options)


def parsed(text):
    """The tags of an INCAR."""
    return dict(tuple(part.strip() for part in line.split("=")) for line in text.splitlines() if line.strip())


def write_potcars(folder):
    """The folder, with POTCARs."""
    for symbol, text in POTCARS.items():
        (folder / symbol).mkdir(parents=True)
        (folder / symbol / "POTCAR").write_text(text)
    return folder


def run(folder, *replays, frame=QUARTZ, attempt=FIRST, **options):
    """What a job of a fake VASP comes to: the label or its error, the run, and the program."""
    if not (folder / "potcars").is_dir():
        write_potcars(folder / "potcars")
    program = fake_program(folder, "vasp_std", *replays)
    mine = labeler(pseudo_dir=str(folder / "potcars"), command=str(program.path), **options)
    result = mine.run(frame, folder / "job", Resources(), attempt)
    try:
        return mine.parse(frame, result), result, program
    except LabelError as error:
        return error, result, program
