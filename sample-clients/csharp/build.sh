#!/bin/sh
# Builds bin/score and bin/test with Debian's C# compiler (mono-mcs) for the .NET Core 3.1 runtime that PyPI has
# (dotnetcore2). With today's .NET SDK instead: dotnet build score
set -eu
cd "$(dirname "$0")"
mkdir -p bin
if [ ! -e bin/runtime/ready ]; then
  rm -rf bin/runtime bin/wheels
  # This runtime needs OpenSSL 1.1, which Debian no longer has; psycopg2-binary's wheel carries one.
  "${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --python-version 3.8 --platform manylinux1_x86_64 --platform manylinux2014_x86_64 \
    --dest bin/wheels dotnetcore2==3.1.23 psycopg2-binary==2.9.5
  mkdir -p bin/runtime/openssl
  for wheel in bin/wheels/*.whl; do "${PYTHON:-python3}" -m zipfile -e "$wheel" bin/runtime; done
  for library in ssl crypto; do
    ln -s "$(cd bin/runtime/psycopg2_binary.libs && ls -d "$PWD"/lib$library-*.so.1.1)" bin/runtime/openssl/lib$library.so.1.1
  done
  # libssl asks for libcrypto by the name that the wheel gave it.
  ln -s "$PWD"/bin/runtime/psycopg2_binary.libs/*.so* bin/runtime/openssl/
  chmod +x bin/runtime/dotnetcore2/bin/dotnet
  rm -rf bin/wheels
  touch bin/runtime/ready
fi
framework=$(ls -d bin/runtime/dotnetcore2/bin/shared/Microsoft.NETCore.App/*)
references=""
for assembly in "$framework"/System*.dll "$framework"/netstandard.dll; do
  case "$assembly" in *WindowsRuntime*) ;; *) references="$references -r:$assembly" ;; esac
done
for program in score test; do
  # shellcheck disable=SC2086
  mcs -langversion:7 -warnaserror -nowarn:1702 -nostdlib -noconfig $references \
    -out:bin/$program.dll client/*.cs $program/*.cs
  cat > bin/$program.runtimeconfig.json <<'CONFIG'
{"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": "3.1.0"},
 "configProperties": {"System.Globalization.Invariant": true}}}
CONFIG
  cat > bin/$program <<'START'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH="$here/runtime/openssl" DOTNET_ROOT="$here/runtime/dotnetcore2/bin" \
  exec "$here/runtime/dotnetcore2/bin/dotnet" "$here/$(basename "$0").dll" "$@"
START
  chmod +x bin/$program
done
