# shellcheck shell=bash
# For the scripts in bin/, which have set BUILDPACK: one environment for all of them, and their parts.

export LC_ALL=C
umask 022
set -E

# shellcheck source=buildpack/lib/output.sh
source "${BUILDPACK}/buildpack/lib/output.sh"
# shellcheck source=buildpack/lib/settings.sh
source "${BUILDPACK}/buildpack/lib/settings.sh"
# shellcheck source=buildpack/lib/binary.sh
source "${BUILDPACK}/buildpack/lib/binary.sh"
# shellcheck source=buildpack/lib/install.sh
source "${BUILDPACK}/buildpack/lib/install.sh"
# shellcheck source=buildpack/lib/layer.sh
source "${BUILDPACK}/buildpack/lib/layer.sh"
# shellcheck source=buildpack/lib/procfile.sh
source "${BUILDPACK}/buildpack/lib/procfile.sh"
# shellcheck source=buildpack/lib/default_command.sh
source "${BUILDPACK}/buildpack/lib/default_command.sh"
# shellcheck source=buildpack/lib/report.sh
source "${BUILDPACK}/buildpack/lib/report.sh"

trap 'output::broken "${BASH_SOURCE[0]}" "${LINENO}" "${BASH_COMMAND}"' ERR
