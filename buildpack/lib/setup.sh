# shellcheck shell=bash
# Sourced by the scripts in bin/, which set BUILDPACK first: sets up the shell and sources the library.

export LC_ALL=C
umask 022
set -E

# shellcheck source=buildpack/lib/output.sh
source "${BUILDPACK}/buildpack/lib/output.sh"
# shellcheck source=buildpack/lib/settings.sh
source "${BUILDPACK}/buildpack/lib/settings.sh"
# shellcheck source=buildpack/lib/binary.sh
source "${BUILDPACK}/buildpack/lib/binary.sh"
# shellcheck source=buildpack/lib/sources.sh
source "${BUILDPACK}/buildpack/lib/sources.sh"
# shellcheck source=buildpack/lib/install.sh
source "${BUILDPACK}/buildpack/lib/install.sh"
# shellcheck source=buildpack/lib/layer.sh
source "${BUILDPACK}/buildpack/lib/layer.sh"
# shellcheck source=buildpack/lib/procfile.sh
source "${BUILDPACK}/buildpack/lib/procfile.sh"
# shellcheck source=buildpack/lib/default_command.sh
source "${BUILDPACK}/buildpack/lib/default_command.sh"
# shellcheck source=buildpack/lib/check.sh
source "${BUILDPACK}/buildpack/lib/check.sh"
# shellcheck source=buildpack/lib/report.sh
source "${BUILDPACK}/buildpack/lib/report.sh"

trap 'output::unexpected "${BASH_SOURCE[0]}" "${LINENO}" "${BASH_COMMAND}"' ERR
