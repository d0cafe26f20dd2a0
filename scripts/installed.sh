# Sourced by scripts that run suites with packages from npm or PyPI. What is installed stays until the list of it changes.

# Installs what package-lock.json in the present folder names.
install_npm() {
  cmp -s package-lock.json installed.json && return
  npm ci --no-audit --no-fund --silent && cp package-lock.json installed.json
}

# REQUIREMENTS VENV: installs what a file names into an environment of Python's.
install_python() {
  cmp -s "$1" "$2/installed.txt" && return
  python3 -m venv "$2" &&
    "$2/bin/pip" install --quiet --disable-pip-version-check --requirement "$1" &&
    cp "$1" "$2/installed.txt"
}
