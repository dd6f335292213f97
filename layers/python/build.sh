#!/usr/bin/env bash
# Installs the function's locked dependencies into the folder that is given, and takes out what never runs.
#
#   build.sh REQUIREMENTS FOLDER
#
# What a cold start costs is files opened and bytes read, so the point is not the size alone: modules come compiled, and
# marked as not to be compared with their sources.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requirements=$1
mkdir -p "$2"
cd "$2"

# Wheels only: nothing here may need a compiler.
python3 -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile --only-binary :all: \
  --target . --requirement "$requirements"

# Tests, headers, type stubs, sources of extension modules, commands for people. Licences lie in *.dist-info, and stay.
find . -depth -type d \( -name tests -o -name test -o -name include -o -name __pycache__ \) -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.h' -o -name '*.hpp' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.a' \
  -o -name '*.c' -o -name '*.proto' -o -name py.typed \) -delete
rm -rf bin
# onnxruntime: export, quantisation and other people's models. numpy: the Fortran compiler's wrapper, build helpers.
rm -rf onnxruntime/{backend,datasets,quantization,tools,transformers} numpy/{f2py,distutils,_pyinstaller,typing/mypy_plugin.py}
# onnxruntime holds its library twice: this copy is for programs in C, Python does not load it.
rm -f onnxruntime/capi/libonnxruntime.so.*
# future: the translators from Python 2, which ffmpeg-python never calls.
rm -rf libfuturize libpasteurize future/backports/test future/moves/test

# botocore knows some four hundred services; the function talks to these.
find botocore/data boto3/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name events ! -name sqs ! -name sts -exec rm -rf {} +
find boto3/examples -delete 2>/dev/null || true

python3 "$here/trim_botocore.py" botocore/data

# By its full path, which tracebacks show.
python3 -B -m compileall -q -j 0 --invalidation-mode unchecked-hash "$PWD"
du -sh .
