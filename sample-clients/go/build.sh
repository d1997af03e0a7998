#!/bin/sh
# Generates the Go code of ../../protos and builds the command bin/score.
# Offline with Debian's packages (see README.md), or with Go modules: GO111MODULE=on ./build.sh
set -eu
cd "$(dirname "$0")"
module=amlrealtimeai/sample-clients/go
protos=../../protos
options=""
for file in $(cd "$protos" && find . -name '*.proto' | sed 's|^\./||' | sort); do
  options="$options,M$file=$module/${file%%/*}"
done
sources=$(cd "$protos" && find . -name '*.proto' | sed 's|^\./||' | sort)
rm -rf tensorflow tensorflow_serving
# shellcheck disable=SC2086
protoc -I "$protos" --go_out=. --go_opt="module=$module$options" \
  --go-grpc_out=. --go-grpc_opt="module=$module$options" $sources
mkdir -p bin
if [ "${GO111MODULE:-off}" = off ]; then
  rm -rf bin/workspace
  mkdir -p "bin/workspace/src/$(dirname "$module")"
  ln -s "$PWD" "bin/workspace/src/$module"
  export GO111MODULE=off GOFLAGS= GOPATH="$PWD/bin/workspace:/usr/share/gocode" GOCACHE="${GOCACHE:-$PWD/bin/cache}"
fi
go vet "$module/scoring" "$module/cmd/score"
go build -o bin/score "$module/cmd/score"
go test -c -o bin/scoring.test "$module/scoring"
