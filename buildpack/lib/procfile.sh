# shellcheck shell=bash
# The Procfile: which entries run under tailrace, and how they come to. An entry's own line goes to
# .tailrace/types/NAME; in its place stands a plain list of words, which every platform starts alike, also those
# that know no shell. Where platforms would read a file differently it is left alone.

declare -a PROCFILE_WRAPPED=() # by this build
declare -a PROCFILE_ALREADY=() # by somebody else
declare -a PROCFILE_LEFT=()    # as they are
PROCFILE_TROUBLE=""            # why the file was left alone

readonly PROCFILE_MOST=1048576 # bytes
readonly PROCFILE_NOTHING='^[[:space:]]*(#.*)?$'
readonly PROCFILE_ENTRY='^[[:blank:]]*([A-Za-z0-9_-]+):[[:blank:]]*(.*)$'
readonly PROCFILE_NAME=63 # characters, as heroku/procfile has it
readonly PROCFILE_UNDER_US='(^|[[:space:];&|(/"'\''`])tailrace["'\'']?[[:space:]]+(run|ship)([[:space:];&|)"'\''`]|$)'
readonly PROCFILE_COMMENT='[[:space:]]#[^"'\'']*$'
readonly PROCFILE_STORED='tailrace[[:space:]]+run[[:space:]]+--type[[:space:]]+([A-Za-z0-9_-]+)'

# Why the file cannot be read at all, in PROCFILE_TROUBLE.
procfile::look() {
	local size zeros
	if [[ ! -f "$1" || ! -r "$1" ]]; then
		PROCFILE_TROUBLE="it is no file that can be read"
		return
	fi
	size="$(stat --dereference --format=%s "$1")"
	zeros="$(tr -dc '\000' <"$1" | wc -c)"
	((size <= PROCFILE_MOST)) || PROCFILE_TROUBLE="it has ${size} bytes, expected at most ${PROCFILE_MOST}"
	((zeros == 0)) || PROCFILE_TROUBLE="it has NUL bytes, expected text"
}

# procfile::read FILE: the lines, and of each its entry and command. Where they are no Procfile that all platforms
# read alike, PROCFILE_TROUBLE says so.
procfile::read() {
	local line number
	local -A seen=()
	PROCFILE_LINES=()
	PROCFILE_NAMES=()
	PROCFILE_COMMANDS=()
	procfile::look "$1"
	[[ -z "${PROCFILE_TROUBLE}" ]] || return 0
	mapfile PROCFILE_LINES <"$1"
	for number in "${!PROCFILE_LINES[@]}"; do
		line="${PROCFILE_LINES[number]%$'\n'}"
		PROCFILE_NAMES[number]=""
		PROCFILE_COMMANDS[number]=""
		if [[ "${line}" =~ ${PROCFILE_NOTHING} ]]; then
			continue
		elif [[ ! "${line}" =~ ${PROCFILE_ENTRY} ]]; then
			PROCFILE_TROUBLE="line $((number + 1)) is no entry, expected \"NAME: COMMAND\""
			return 0
		fi
		PROCFILE_NAMES[number]="${BASH_REMATCH[1]}"
		PROCFILE_COMMANDS[number]="${BASH_REMATCH[2]%"${BASH_REMATCH[2]##*[![:space:]]}"}"
		if ((${#PROCFILE_NAMES[number]} > PROCFILE_NAME)); then
			PROCFILE_TROUBLE="line $((number + 1)) has a name of ${#PROCFILE_NAMES[number]} characters, expected at most ${PROCFILE_NAME}"
			return 0
		fi
		if [[ -n "${seen[${PROCFILE_NAMES[number]}]-}" ]]; then
			PROCFILE_TROUBLE="${PROCFILE_NAMES[number]} stands in it twice, expected one line for each entry"
			return 0
		fi
		seen["${PROCFILE_NAMES[number]}"]=1
	done
}

# An entry that is under tailrace by a stored line has that line, or it would not start.
procfile::check_stored() {
	local app="$1" name="$2" command="$3"
	[[ "${command}" =~ ${PROCFILE_STORED} && ! -f "${app}/.tailrace/types/${BASH_REMATCH[1]}" ]] || return 0
	output::fail orphaned-entry "the command of ${name} in the Procfile" "a line that only a build writes: ${command}" \
		"put the entry's own command into the Procfile of the repository"
}

# "yes" in REPLY when a command runs under tailrace by itself, else nothing. Where this is mistaken no harm is done: a
# `tailrace run` below another one steps aside.
procfile::under_us() {
	local command="$1"
	REPLY=""
	[[ ! "${command}" =~ ${PROCFILE_COMMENT} ]] || command="${command%"${BASH_REMATCH[0]}"}"
	[[ ! "${command}" =~ ${PROCFILE_UNDER_US} ]] || REPLY="yes"
}

# procfile::sort APP LIST: which entry is for what.
procfile::sort() {
	local app="$1" list="$2" number name command
	for number in "${!PROCFILE_LINES[@]}"; do
		name="${PROCFILE_NAMES[number]}"
		command="${PROCFILE_COMMANDS[number]}"
		if [[ -z "${name}" ]]; then
			continue
		fi
		procfile::under_us "${command}"
		if [[ -n "${REPLY}" ]]; then
			procfile::check_stored "${app}" "${name}" "${command}"
			PROCFILE_ALREADY+=("${name}")
			continue
		fi
		settings::find "${list}" "${name}"
		if [[ -n "${command}" && -n "${REPLY}" ]]; then
			PROCFILE_WRAPPED+=("${name}")
			PROCFILE_STORE+=("${number}")
		else
			PROCFILE_LEFT+=("${name}")
		fi
	done
}

# Writes the stored lines, then the Procfile, which is replaced as a whole: other lines stay byte for byte.
procfile::write() {
	local app="$1" number name end
	install::directory "${app}/.tailrace/types"
	for number in "${PROCFILE_STORE[@]}"; do
		name="${PROCFILE_NAMES[number]}"
		printf '%s\n' "${PROCFILE_COMMANDS[number]}" >"${app}/.tailrace/line"
		install::file "${app}/.tailrace/line" "${app}/.tailrace/types/${name}" 644
		end=""
		[[ "${PROCFILE_LINES[number]}" == *$'\n' ]] && end=$'\n'
		PROCFILE_LINES[number]="${name}: .tailrace/bin/tailrace run --type ${name}${end}"
	done
	printf '%s' "${PROCFILE_LINES[@]}" >"${app}/.tailrace/line"
	chmod --reference="${app}/Procfile" "${app}/.tailrace/line"
	mv -f "${app}/.tailrace/line" "${app}/Procfile"
}

# Warns of names in TAILRACE_TYPES that no entry has.
procfile::check_names() {
	local word
	local -a WORDS
	settings::words "$1"
	for word in "${WORDS[@]}"; do
		[[ "${word}" == all || "${word}" == none || " ${PROCFILE_NAMES[*]} " == *" ${word} "* ]] ||
			output::warn "TAILRACE_TYPES names ${word}, and the Procfile has no such entry"
	done
}

# procfile::wrap APP: puts the entries of TAILRACE_TYPES under tailrace.
procfile::wrap() {
	local app="$1" list
	local -a PROCFILE_LINES PROCFILE_NAMES PROCFILE_COMMANDS PROCFILE_STORE=()
	[[ -e "${app}/Procfile" || -L "${app}/Procfile" ]] || return 0
	settings::types
	list="${REPLY}"
	procfile::read "${app}/Procfile"
	if [[ -n "${PROCFILE_TROUBLE}" ]]; then
		output::warn "the Procfile is left as it is: ${PROCFILE_TROUBLE};" \
			"nothing is put under tailrace until that is mended, but where you write before a command: tailrace run --"
		return 0
	fi
	procfile::check_names "${list}"
	procfile::sort "${app}" "${list}"
	((${#PROCFILE_STORE[@]})) || return 0
	procfile::write "${app}"
}
