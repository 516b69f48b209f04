#!/usr/bin/env bash
# Installs the Debian libraries that the Python wheels expect, only those that are missing.
#   libegl1 libgl1 libgl1-mesa-dri  MuJoCo renders headless through EGL (Mesa's software driver without a GPU)
#   libglib2.0-0                    OpenCV
#   g++                             torch.compile builds its kernels for the CPU
#   python3-venv                    `python -m venv`, only where Debian's own Python is used
# Further packages can be named: `make test` wants postgresql (a real server for the job table), and `make chaos`
# chromium (a browser at the API), iproute2 (a second network), nodejs and npm (the SDK for Node).
set -euo pipefail

command -v dpkg-query >/dev/null || exit 0 # not Debian: `skyloom doctor` says what is missing

wanted=(libegl1 libgl1 libgl1-mesa-dri libglib2.0-0)
wanted+=("$@")
command -v g++ >/dev/null || wanted+=(g++)
python3 -c 'import ensurepip' 2>/dev/null || wanted+=(python3-venv)

missing=()
for package in "${wanted[@]}"; do
  # Debian 13 renamed some libraries for 64-bit time (libglib2.0-0t64); either name will do.
  # dpkg-query fails when it knows only one of the two.
  found=$(dpkg-query -W -f '${Status}\n' "$package" "${package}t64" 2>/dev/null || true)
  if ! grep -q '^install ok installed' <<<"$found"; then
    missing+=("$package")
  fi
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ]; then
  as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  as_root=(sudo)
else
  echo "Missing Debian packages: ${missing[*]}. Install them with: sudo apt-get install ${missing[*]}" >&2
  exit 0
fi
echo "Installing Debian packages: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
