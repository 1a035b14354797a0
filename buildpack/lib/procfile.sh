# shellcheck shell=bash
# Wraps the entries of the Procfile. The command of a wrapped entry is stored in .tailrace/types/NAME and replaced by
# `.tailrace/bin/tailrace run --type NAME`: plain words without shell syntax, which all platforms start in the same way, also
# those that use no shell. A file that platforms would parse differently is not changed.
# Where the app's directory in the dyno is known, which is where HOME is /app (Dev Center, "Buildpack API"), the path is absolute:
# `.profile` may change to another directory.

# Names of entries.
declare -a PROCFILE_WRAPPED=()         # wrapped by this build
declare -a PROCFILE_ALREADY_WRAPPED=() # their command runs tailrace itself
declare -a PROCFILE_UNWRAPPED=()       # not changed
PROCFILE_PROBLEM=""                    # why the file was not changed

readonly PROCFILE_MAX_BYTES=1048576
readonly PROCFILE_MAX_NAME=63 # characters, as in heroku/procfile
readonly PROCFILE_BLANK='^[[:space:]]*(#.*)?$'
readonly PROCFILE_ENTRY='^[[:blank:]]*([A-Za-z0-9_-]+):[[:blank:]]*(.*)$'
readonly PROCFILE_USES_TAILRACE='(^|[[:space:];&|(/"'\''`])tailrace["'\'']?[[:space:]]+(run|ship)([[:space:];&|)"'\''`]|$)'
readonly PROCFILE_COMMENT='[[:space:]]#[^"'\'']*$'
readonly PROCFILE_WRAPPER='tailrace[[:space:]]+run[[:space:]]+--type[[:space:]]+([A-Za-z0-9_-]+)'

# procfile::check_file FILE: sets PROCFILE_PROBLEM when the file cannot be read as text.
procfile::check_file() {
	local size nul_bytes
	if [[ ! -f "$1" || ! -r "$1" ]]; then
		PROCFILE_PROBLEM="it is not a readable file"
		return
	fi
	size="$(stat --dereference --format=%s "$1")"
	nul_bytes="$(tr -dc '\000' <"$1" | wc -c)"
	((size <= PROCFILE_MAX_BYTES)) || PROCFILE_PROBLEM="it has ${size} bytes, expected at most ${PROCFILE_MAX_BYTES}"
	((nul_bytes == 0)) || PROCFILE_PROBLEM="it contains NUL bytes, expected text"
}

# procfile::read FILE: sets PROCFILE_LINES and, with the same indices, PROCFILE_NAMES and PROCFILE_COMMANDS (empty for lines
# without an entry). Sets PROCFILE_PROBLEM when platforms would parse the file differently.
procfile::read() {
	local line number
	local -A seen=()
	PROCFILE_LINES=()
	PROCFILE_NAMES=()
	PROCFILE_COMMANDS=()
	procfile::check_file "$1"
	[[ -z "${PROCFILE_PROBLEM}" ]] || return 0
	mapfile PROCFILE_LINES <"$1"
	for number in "${!PROCFILE_LINES[@]}"; do
		line="${PROCFILE_LINES[number]%$'\n'}"
		PROCFILE_NAMES[number]=""
		PROCFILE_COMMANDS[number]=""
		if [[ "${line}" =~ ${PROCFILE_BLANK} ]]; then
			continue
		elif [[ ! "${line}" =~ ${PROCFILE_ENTRY} ]]; then
			PROCFILE_PROBLEM="line $((number + 1)) is not an entry, expected \"NAME: COMMAND\""
			return 0
		fi
		PROCFILE_NAMES[number]="${BASH_REMATCH[1]}"
		PROCFILE_COMMANDS[number]="${BASH_REMATCH[2]%"${BASH_REMATCH[2]##*[![:space:]]}"}"
		if ((${#PROCFILE_NAMES[number]} > PROCFILE_MAX_NAME)); then
			PROCFILE_PROBLEM="line $((number + 1)) has a name of ${#PROCFILE_NAMES[number]} characters, expected at most ${PROCFILE_MAX_NAME}"
			return 0
		fi
		if [[ -n "${seen[${PROCFILE_NAMES[number]}]-}" ]]; then
			PROCFILE_PROBLEM="${PROCFILE_NAMES[number]} occurs twice, expected one line for each entry"
			return 0
		fi
		seen["${PROCFILE_NAMES[number]}"]=1
	done
}

# procfile::check_stored APP NAME COMMAND: fails the build when COMMAND is a wrapper and its stored command does not exist: the
# entry could not start.
procfile::check_stored() {
	local app="$1" name="$2" command="$3"
	[[ "${command}" =~ ${PROCFILE_WRAPPER} && ! -f "${app}/.tailrace/types/${BASH_REMATCH[1]}" ]] || return 0
	output::fail orphaned-entry "the command of ${name} in the Procfile" "a line that only a build may write: ${command}" \
		"put the entry's own command into the Procfile of the repository"
}

# procfile::uses_tailrace COMMAND: sets REPLY to "yes" when the command runs tailrace itself, else to nothing. An error here is
# harmless: a nested `tailrace run` only executes its command.
procfile::uses_tailrace() {
	local command="$1"
	REPLY=""
	[[ ! "${command}" =~ ${PROCFILE_COMMENT} ]] || command="${command%"${BASH_REMATCH[0]}"}"
	[[ ! "${command}" =~ ${PROCFILE_USES_TAILRACE} ]] || REPLY="yes"
}

# procfile::classify APP TYPES: fills PROCFILE_WRAPPED, PROCFILE_ALREADY_WRAPPED and PROCFILE_UNWRAPPED, and PROCFILE_STORE with
# the indices of the entries to wrap. TYPES is the value of TAILRACE_TYPES.
procfile::classify() {
	local app="$1" types="$2" number name command
	for number in "${!PROCFILE_LINES[@]}"; do
		name="${PROCFILE_NAMES[number]}"
		command="${PROCFILE_COMMANDS[number]}"
		if [[ -z "${name}" ]]; then
			continue
		fi
		procfile::uses_tailrace "${command}"
		if [[ -n "${REPLY}" ]]; then
			procfile::check_stored "${app}" "${name}" "${command}"
			PROCFILE_ALREADY_WRAPPED+=("${name}")
			continue
		fi
		settings::match_type "${types}" "${name}"
		if [[ -n "${command}" && -n "${REPLY}" ]]; then
			PROCFILE_WRAPPED+=("${name}")
			PROCFILE_STORE+=("${number}")
		else
			PROCFILE_UNWRAPPED+=("${name}")
		fi
	done
}

# procfile::write APP: writes the stored commands, then replaces the Procfile atomically. Other lines keep their bytes.
procfile::write() {
	local app="$1" temporary="$1/.tailrace/procfile.tmp" number name newline prefix=""
	[[ -v CNB_LAYERS_DIR || "${HOME-}" != /app ]] || prefix="/app/"
	install::directory "${app}/.tailrace/types"
	for number in "${PROCFILE_STORE[@]}"; do
		name="${PROCFILE_NAMES[number]}"
		printf '%s\n' "${PROCFILE_COMMANDS[number]}" >"${temporary}"
		install::file "${temporary}" "${app}/.tailrace/types/${name}" 644
		newline=""
		[[ "${PROCFILE_LINES[number]}" == *$'\n' ]] && newline=$'\n'
		PROCFILE_LINES[number]="${name}: ${prefix}.tailrace/bin/tailrace run --type ${name}${newline}"
	done
	printf '%s' "${PROCFILE_LINES[@]}" >"${temporary}"
	chmod --reference="${app}/Procfile" "${temporary}"
	mv -f "${temporary}" "${app}/Procfile"
}

# procfile::check_types TYPES: warns of names in TAILRACE_TYPES that are not in the Procfile.
procfile::check_types() {
	local type
	local -a LIST
	settings::split_list "$1"
	for type in "${LIST[@]}"; do
		[[ "${type}" == all || "${type}" == none || " ${PROCFILE_NAMES[*]} " == *" ${type} "* ]] ||
			output::warn "TAILRACE_TYPES contains ${type}, but the Procfile has no such entry"
	done
}

# procfile::remember APP: keeps a copy of the Procfile, with which .profile.d/tailrace.sh compares the one in the dyno.
procfile::remember() {
	((${#PROCFILE_WRAPPED[@]} + ${#PROCFILE_ALREADY_WRAPPED[@]})) || return 0
	install::directory "$1/.tailrace"
	install::file "$1/Procfile" "$1/.tailrace/procfile" 644
}

# procfile::wrap APP: wraps the entries that TAILRACE_TYPES selects.
procfile::wrap() {
	local app="$1" types
	local -a PROCFILE_LINES PROCFILE_NAMES PROCFILE_COMMANDS PROCFILE_STORE=()
	[[ -e "${app}/Procfile" || -L "${app}/Procfile" ]] || return 0
	settings::types
	types="${REPLY}"
	procfile::read "${app}/Procfile"
	if [[ -n "${PROCFILE_PROBLEM}" ]]; then
		output::warn "the Procfile is not changed: ${PROCFILE_PROBLEM};" \
			"until that is corrected, nothing runs under tailrace except commands that begin with: tailrace run --"
		return 0
	fi
	procfile::check_types "${types}"
	procfile::classify "${app}" "${types}"
	((${#PROCFILE_STORE[@]})) || return 0
	procfile::write "${app}"
}
