# shellcheck shell=bash
# Config vars of the build: each is a file in ENV_DIR, which may be missing. Only those of tailrace are read, the two of rustup that
# say where it downloads from, and those of buildpacks that replace the Procfile.

# settings::get NAME: sets REPLY to the trimmed value; empty when it is not set.
settings::get() {
	local file="${ENV_DIR:+${ENV_DIR}/$1}"
	REPLY=""
	[[ -n "${file}" && -f "${file}" && -r "${file}" ]] || return 0
	REPLY="$(tr -d '\0' <"${file}")"
	REPLY="${REPLY#"${REPLY%%[![:space:]]*}"}"
	REPLY="${REPLY%"${REPLY##*[![:space:]]}"}"
}

# settings::is_set NAME: sets REPLY to "set" when the config var is not blank, else to nothing. Does not read the value into a
# variable: it may be a secret.
settings::is_set() {
	REPLY=""
	if [[ -n "${ENV_DIR}" && -r "${ENV_DIR}/$1" ]] && grep -q '[^[:space:]]' "${ENV_DIR}/$1"; then
		REPLY="set"
	fi
}

# settings::split_list TEXT: sets LIST to the items, which are separated by blanks or commas.
settings::split_list() {
	LIST=()
	IFS=$' \t\n' read -r -d '' -a LIST <<<"${1//,/ }" || true
}

# Sets REPLY to TAILRACE_TYPES, or to "all", also for a value that the agent refuses (check::settings reports it).
settings::types() {
	settings::get TAILRACE_TYPES
	[[ "${REPLY}" =~ ^[A-Za-z0-9_,[:space:]-]*$ ]] || REPLY=""
	REPLY="${REPLY:-all}"
}

# settings::build: sets REPLY to TAILRACE_BUILD, or "auto". Fails the build for another value: "never" may be a rule of security.
settings::build() {
	settings::get TAILRACE_BUILD
	REPLY="${REPLY:-auto}"
	case "${REPLY}" in
	auto | always | never) ;;
	*) output::fail wrong-setting "in TAILRACE_BUILD one of auto, always, never" "\"${REPLY//[[:cntrl:]]/ }\"" \
		"heroku config:unset TAILRACE_BUILD" ;;
	esac
}

# settings::match_type TYPES NAME: sets REPLY to the item of TYPES that selects the Procfile entry NAME, or to nothing. The agent
# applies the same rule at boot (Config::wraps).
settings::match_type() {
	local -a LIST
	settings::split_list "$1"
	for REPLY in "${LIST[@]}"; do
		if [[ "${REPLY}" == "$2" ]] || [[ "${REPLY}" == all && "$2" != release ]]; then
			return
		fi
	done
	REPLY=""
}
