"""Metadata of ``d2l_deeprnn``. Every requirement is written here once.

``environment.yml`` repeats the requirements for conda; ``tests/test_packaging.py`` holds the two
together.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


def version():
    """The version in ``d2l_deeprnn/_version.py``, read as text: MXNet need not be installed."""
    text = (HERE / "d2l_deeprnn" / "_version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE).group(1)


class FreshBuild(build_py):
    """Build from nothing: what an earlier version left in build/ would get into the wheel."""

    def run(self):
        if not getattr(self, "editable_mode", False):
            for folder in [self.build_lib, self.get_finalized_command("bdist").bdist_base]:
                shutil.rmtree(folder, ignore_errors=True)
        super().run()


BASE = [
    # MXNet has wheels for Linux, and for macOS on x86-64. It asks for NumPy below 2, which pip
    # would compile for Python 3.13 and later. `pip install --no-deps mxnet==1.9.1` comes second
    # there, as in scripts/set_up.py: this package requires all that MXNet imports. If MXNet is
    # missing, the error of the import says what to do.
    'mxnet==1.9.1; python_version < "3.13" and (sys_platform == "linux" or '
    'sys_platform == "darwin" and platform_machine == "x86_64")',
    # As old as Python 3.8 could have it.
    "numpy>=1.20,<3",
    "matplotlib>=3.5",
    # Pillow 10.4, the last for Python 3.8, cannot be imported beside NumPy 1.20. matplotlib asks
    # for Pillow.
    'pillow<10.4; python_version < "3.9"',
    "tqdm>=4.60",
    "requests>=2.25,<3",
    # The pages of reports. 3.1 is the oldest for all Pythons from 3.8 to 3.13.
    "jinja2>=3.1,<4",
    # Names the encoding that a file is likely to be in. Older ones are often wrong, or have other
    # arguments; Requests before 2.33 warns of chardet 7, and Requests 2.34 would of chardet 8.
    'chardet>=7.4.3,<8; python_version >= "3.10"',
    'requests>=2.33; python_version >= "3.10"',
    # MXNet imports distutils, which Python dropped in 3.12 and setuptools still carries, version
    # classes included. The cap is the newest series seen to do so.
    'setuptools>=68,<85; python_version >= "3.12"',
]

# The 2019 library itself: tests and notebooks hold this package against it. It asks for jupyter.
ORIGINAL = "d2l==0.9.1"

# mpiexec and MPI, without a compiler. Where mpi4py was built for another MPI, that one is used.
MPI = ["mpi4py>=4.0", 'mpich>=4.2; sys_platform == "linux"']
# What `export` needs for its formats. The extras are called as the formats are.
# ONNX Runtime has no wheels for Python 3.15 yet.
ONNX = ["onnx>=1.17", 'onnxruntime>=1.19; python_version < "3.15"']
SAFETENSORS = ["safetensors>=0.5"]
# What `train --log tensorboard` writes with. TensorBoard, which shows it, can be anywhere.
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
        "hypothesis>=6.80",
        *MPI,
        # Exact, so that everybody's linter says the same. mypy 1.14 is the last for Python 3.8.
        "ruff==0.17.6",
        "mypy==1.14.1",
    ],
    "onnx": ONNX,
    "safetensors": SAFETENSORS,
    "tensorboard": TENSORBOARD,
    "bench": [
        # PyTorch has no wheels for macOS on x86-64 any more.
        'torch==2.13.0; python_version >= "3.10" and sys_platform == "linux"',
        "psutil>=5.9",
    ],
    # To build the documentation. Sphinx 9 needs Python 3.11; another one warns of other things.
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
    # Said so, an editable install puts this folder on Python's path. Otherwise it relies on an
    # import hook that comes after the path, where a folder called d2l_deeprnn, such as a clone of
    # this project, is found before it.
    package_dir={"": "."},
    package_data={
        "d2l_deeprnn": ["py.typed", "*/*.css", "*/*.html", "export/page/*", "text/samples/*.txt"]
    },
    zip_safe=False,
    cmdclass={"build_py": FreshBuild},
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
