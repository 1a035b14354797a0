# shellcheck shell=bash
# Config vars at the build: a file each in ENV_DIR, which may be missing. Only ours are read.

# The value of a config var in REPLY, without blanks around it; empty when it is not set.
settings::get() {
	local file="${ENV_DIR:+${ENV_DIR}/$1}"
	REPLY=""
	[[ -n "${file}" && -f "${file}" && -r "${file}" ]] || return 0
	REPLY="$(tr -d '\0' <"${file}")"
	REPLY="${REPLY#"${REPLY%%[![:space:]]*}"}"
	REPLY="${REPLY%"${REPLY##*[![:space:]]}"}"
}

# "set" in REPLY when a config var is set to more than blanks, else nothing.
settings::state() {
	REPLY=""
	if [[ -n "${ENV_DIR}" && -r "${ENV_DIR}/$1" ]] && grep -q '[^[:space:]]' "${ENV_DIR}/$1"; then
		REPLY="set"
	fi
}

# The words of a list, by blanks and commas, in WORDS.
settings::words() {
	WORDS=()
	IFS=$' \t\n' read -r -d '' -a WORDS <<<"${1//,/ }" || true
}

# TAILRACE_TYPES in REPLY. What the agent would not understand at boot is said here.
settings::types() {
	settings::get TAILRACE_TYPES
	if [[ ! "${REPLY}" =~ ^[A-Za-z0-9_,[:space:]-]*$ ]]; then
		output::warn "TAILRACE_TYPES: found \"${REPLY//[[:cntrl:]]/ }\", expected all, none, or names of entries; built as" \
			"with all, but with such a value nothing runs under tailrace: heroku config:unset TAILRACE_TYPES"
		REPLY=""
	fi
	REPLY="${REPLY:-all}"
}

# settings::find LIST NAME: the word of a list that stands for this entry of a Procfile in REPLY, or nothing. The
# agent looks in the same way at boot.
settings::find() {
	local -a WORDS
	settings::words "$1"
	for REPLY in "${WORDS[@]}"; do
		if [[ "${REPLY}" == "$2" ]] || [[ "${REPLY}" == all && "$2" != release ]]; then
			return
		fi
	done
	REPLY=""
}
