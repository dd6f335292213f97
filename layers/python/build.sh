#!/usr/bin/env bash
# Install the functions' locked dependencies into FOLDER, and remove unused files.
#
#   build.sh REQUIREMENTS FOLDER
#
# Opened files and read bytes make a cold start slower. Therefore modules are compiled, and Python does not check their
# sources.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requirements=$1
mkdir -p "$2"
cd "$2"

# Wheels only, because this stage has no compiler.
python3 -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile --only-binary :all: \
  --target . --requirement "$requirements"

# Tests, headers, type stubs, sources of extension modules, and commands. Licences stay, in *.dist-info.
find . -depth -type d \( -name tests -o -name test -o -name include -o -name __pycache__ \) -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.h' -o -name '*.hpp' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.a' \
  -o -name '*.c' -o -name '*.proto' -o -name py.typed \) -delete
rm -rf bin
# onnxruntime: export, quantisation and model tools. numpy: the wrapper of the Fortran compiler and build helpers.
rm -rf onnxruntime/{backend,datasets,quantization,tools,transformers} numpy/{f2py,distutils,_pyinstaller,typing/mypy_plugin.py}
# onnxruntime contains its library twice. Python does not load this copy, which is for C programs.
rm -f onnxruntime/capi/libonnxruntime.so.*
# future: the translators from Python 2, which ffmpeg-python does not use.
rm -rf libfuturize libpasteurize future/backports/test future/moves/test

# botocore describes about 400 services. The functions use four.
find botocore/data boto3/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name events ! -name sqs ! -name sts -exec rm -rf {} +
find boto3/examples -delete 2>/dev/null || true

python3 "$here/trim_botocore.py" botocore/data

# Compile by full path, because tracebacks show the path that was compiled.
python3 -B -m compileall -q -j 0 --invalidation-mode unchecked-hash "$PWD"
du -sh .
