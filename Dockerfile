# Linux with the requirements of the Makefile, on x86-64 and 64-bit ARM. Use it on Apple silicon, for
# which MXNet has no build.
#
#   docker build --tag d2l_deeprnn .
#   docker run --rm --interactive --tty --volume "$PWD/reproduction:/d2l_deeprnn/reproduction" \
#       d2l_deeprnn make reproduce
FROM debian:12-slim

# MXNet needs libquadmath on x86-64, and LAPACK and BLAS on ARM.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make python3-venv libgomp1 \
        $(case $(uname -m) in aarch64) echo liblapacke libopenblas0-openmp ;; *) echo libquadmath0 ;; esac) \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /d2l_deeprnn
COPY . .
RUN make .venv/installed-base
CMD ["make", "help"]
