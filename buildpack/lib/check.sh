# shellcheck shell=bash
# Runs the installed program's `check --no-send` on the config vars of the build, and shows what is wrong. Never fails the build.

# check::run PROGRAM APP: sets REPLY to the output of the check, with the variables of tailrace set as in a dyno.
check::run() {
	local program="$1" app="$2" file name
	REPLY="$(
		cd "${app}" || exit
		for name in "${!TAILRACE@}"; do
			unset "${name}"
		done
		for file in "${ENV_DIR:-/nowhere}"/TAILRACE*; do
			name="${file##*/}"
			[[ -f "${file}" && -r "${file}" && "${name}" =~ ^TAILRACE[A-Za-z0-9_]*$ ]] || continue
			export "${name}=$(tr -d '\0' <"${file}")"
		done
		# The app's directory has another path in the dyno.
		[[ ! -v TAILRACE_CA_FILE ]] || TAILRACE_CA_FILE="${TAILRACE_CA_FILE/#\/app\//"${app}/"}"
		timeout 30 "${program}" check --no-send 2>&1 </dev/null
	)" || true
}

# check::settings PROGRAM APP: shows the problems of the settings as warnings, and as a note which drain the build cannot reach.
check::settings() {
	local line drain=""
	local -a problems=()
	check::run "$1" "$2"
	while IFS= read -r line; do
		case "${line}" in
		"  error: "* | "  warning: "*) problems+=("${line}") ;;
		# A drain on loopback is in the dyno.
		"drain "*"://127."* | "drain "*"://localhost"* | "drain "*"://[::1]"*) drain="" ;;
		"drain "*) drain="${line}" ;;
		"  "*"FAILED: "*)
			[[ -z "${drain}" ]] || output::note "${drain} cannot be reached from this build: ${line#*FAILED: }" \
				"(it may be reached from a dyno: heroku run tailrace check)"
			;;
		*) ;;
		esac
	done <<<"${REPLY}"
	((${#problems[@]} == 0)) || output::warn "config vars of tailrace need a correction (heroku run tailrace check shows all settings):" \
		"${problems[@]}"
}
