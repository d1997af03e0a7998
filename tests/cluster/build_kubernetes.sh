#!/usr/bin/env bash
# Builds a Kubernetes (1.20.2) from Debian's source package into the folder $1: kube-apiserver, kube-controller-manager,
# kube-scheduler and kubelet. Takes about ten minutes of two cores, once. Needs golang-go, gcc, libc6-dev, dpkg-dev.
set -euo pipefail
to=$1
[ ! -e "$to/kubelet" ] || exit 0
mkdir -p "$to"
work=$(mktemp -d "$to/build.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"

# Debian's source packages, through the lists that this machine has for its binary packages.
mkdir -p apt/parts apt/lists/partial
for list in /etc/apt/sources.list.d/*.sources; do
  [ ! -e "$list" ] || sed 's/^Types: .*/Types: deb-src/' "$list" > "apt/parts/$(basename "$list")"
done
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [ ! -s "$list" ] || sed -n 's/^deb /deb-src /p' "$list" > "apt/parts/$(basename "${list%.list}").list"
done
apt=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$PWD/apt/parts" -o Dir::State::lists="$PWD/apt/lists"
  -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update -qq
apt-get "${apt[@]}" source -qq kubernetes > /dev/null

export GO111MODULE=off GOFLAGS= GOPATH=$work/go GOCACHE=$work/cache
mkdir -p go/src/k8s.io
mv kubernetes-*/ go/src/k8s.io/kubernetes
cd go/src/k8s.io/kubernetes
ldflags="-s -w -X k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitVersion=v1.20.2
  -X k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitMajor=1
  -X k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitMinor=20"

# The API server needs the OpenAPI description of all types, which the source package does not hold.
go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
types=$(grep -rl --include=*.go '+k8s:openapi-gen=' pkg staging/src/k8s.io vendor/k8s.io 2>/dev/null \
  | grep -v -e _test.go -e /testdata/ -e zz_generated -e /kube-openapi/ -e /code-generator/ -e /sample- | xargs -n1 dirname | sort -u \
  | sed -e 's|^staging/src/|k8s.io/kubernetes/vendor/|' -e '/^pkg\|^vendor/s|^|k8s.io/kubernetes/|' | sort -u | paste -sd,)
"$work/openapi-gen" --logtostderr -i "$types" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
  -h hack/boilerplate/boilerplate.generatego.txt -r "$work/violations" > "$work/openapi.log" 2>&1 \
  || { tail -20 "$work/openapi.log"; exit 1; }

for program in kube-apiserver kube-controller-manager kube-scheduler kubelet; do
  echo "building $program"
  go build -ldflags "$ldflags" -o "$work/$program" "./cmd/$program"
done
mv "$work"/kube-* "$to"
mv "$work/kubelet" "$to"
