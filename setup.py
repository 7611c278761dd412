"""Metadata and requirements of ``d2l_deeprnn``.

``environment.yml`` repeats the requirements for conda; ``tests/test_packaging.py`` compares them.
"""

import re
import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


def version():
    """Read the version as text, since importing the package needs MXNet."""
    text = (HERE / "d2l_deeprnn" / "_version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE).group(1)


class Build(build_py):
    """A build with the notebooks. It first empties build/, so that the wheel has no old files."""

    def run(self):
        if getattr(self, "editable_mode", False):  # the notebooks of the clone are used
            super().run()
            return
        for folder in [self.build_lib, self.get_finalized_command("bdist").bdist_base]:
            shutil.rmtree(folder, ignore_errors=True)
        super().run()
        notebooks = runpy.run_path(str(HERE / "d2l_deeprnn" / "cli" / "notebook_files.py"))
        for name in notebooks["notebook_files"](HERE):
            target = Path(self.build_lib, "d2l_deeprnn", notebooks["FOLDER"], name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HERE / name, target)


BASE = [
    # MXNet has wheels for Linux, and for macOS on x86-64. It requires a NumPy below 2, which pip
    # would have to compile for Python 3.13 and later. For these, MXNet is installed by a second
    # command, `pip install --no-deps mxnet==1.9.1`, as in scripts/set_up.py. Everything else that
    # MXNet imports is listed here.
    'mxnet==1.9.1; python_version < "3.13" and (sys_platform == "linux" or '
    'sys_platform == "darwin" and platform_machine == "x86_64")',
    # The oldest with wheels for Python 3.8.
    "numpy>=1.20,<3",
    "matplotlib>=3.5",
    # matplotlib needs Pillow. Pillow 10.4, the last for Python 3.8, fails with NumPy 1.20.
    'pillow<10.4; python_version < "3.9"',
    "tqdm>=4.60",
    "requests>=2.25,<3",
    # For reports. 3.1 is the oldest that supports Python 3.8 to 3.13.
    "jinja2>=3.1,<4",
    # Guesses encodings. Older versions are often wrong or have other arguments. Requests before
    # 2.33 warns about chardet 7, and Requests 2.34 would about chardet 8.
    'chardet>=7.4.3,<8; python_version >= "3.10"',
    'requests>=2.33; python_version >= "3.10"',
    # MXNet imports distutils, which Python 3.12 removed and setuptools still has, including its
    # version classes. The upper limit follows the newest series known to have them.
    'setuptools>=68,<85; python_version >= "3.12"',
]

# The library of 2019, for comparisons in tests and notebooks. It requires jupyter.
ORIGINAL = "d2l==0.9.1"

# MPI and mpiexec, which need no compiler. If mpi4py was built for another MPI, that MPI is used.
MPI = ["mpi4py>=4.0", 'mpich>=4.2; sys_platform == "linux"']
# For the formats of `export`; each extra has the name of its format. ONNX Runtime has no wheels for
# Python 3.15 yet.
ONNX = ["onnx>=1.17", 'onnxruntime>=1.19; python_version < "3.15"']
SAFETENSORS = ["safetensors>=0.5"]
# For `train --log tensorboard`. TensorBoard itself may run elsewhere.
TENSORBOARD = ["tensorboardX>=2.6"]

EXTRAS = {
    "mpi": MPI,
    "notebooks": [
        ORIGINAL,
        "jupyterlab>=4",
        "ipykernel>=6.25",
        "matplotlib-inline>=0.1.6",
        "nbclient>=0.8",
        "nbformat>=5.9",
    ],
    "completion": ["argcomplete>=3.1"],
    "test": [
        ORIGINAL,
        *ONNX,
        *SAFETENSORS,
        *TENSORBOARD,
        "pytest>=7.4",
        "pytest-timeout>=2.2",
        "pytest-xdist>=3.5",
        "hypothesis>=6.80",
        *MPI,
        # Exact, so that linters agree everywhere. mypy 1.14 is the last for Python 3.8.
        "ruff==0.17.6",
        "mypy==1.14.1",
    ],
    "onnx": ONNX,
    "safetensors": SAFETENSORS,
    "tensorboard": TENSORBOARD,
    "bench": [
        # PyTorch no longer has wheels for macOS on x86-64.
        'torch==2.13.0; python_version >= "3.10" and sys_platform == "linux"',
        "psutil>=5.9",
        "pyppmd>=1.1",
    ],
    # To build the documentation. Sphinx 9 needs Python 3.11; older versions print other warnings.
    "site": [
        requirement + '; python_version >= "3.11"'
        for requirement in ["sphinx>=9", "furo>=2025.12", "myst-nb>=1.4", "myst-parser>=5"]
    ],
    # To test the page of `export --format html`; Chromium and its driver come from the system.
    "browser": ["selenium>=4.15"],
}

setup(
    name="d2l_deeprnn",
    version=version(),
    description='The MXNet edition of the book chapter "Deep Recurrent Neural Networks", '
    "alive on today's machines",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["d2l_deeprnn", "d2l_deeprnn.*"]),
    # Makes an editable install put this folder on Python's path. Otherwise it uses an import hook,
    # and a folder called d2l_deeprnn on the path, such as a clone of this project, comes first.
    package_dir={"": "."},
    package_data={
        "d2l_deeprnn": [
            "py.typed",
            "*/*.css",
            "*/*.csv",
            "*/*.html",
            "export/page/*",
            "text/samples/*.txt",
        ]
    },
    zip_safe=False,
    cmdclass={"build_py": Build},
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["d2l-deeprnn = d2l_deeprnn.cli:main"]},
    keywords="mxnet gluon rnn lstm gru language-model d2l",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Framework :: Jupyter",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS :: MacOS X",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.8",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Programming Language :: Python :: 3.15",
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
