# shellcheck shell=bash
# What the build did, for the person who reads its log, and for bin/report.

# report::list WORD…: "a, b, c" in REPLY.
report::list() {
	REPLY="$(printf ', %s' "$@")"
	REPLY="${REPLY#, }"
}

# Warns when a language's buildpack has run already: as the last one we would hide its default process types.
report::order() {
	local app="$1" trace="" file
	for file in "${app}"/.heroku/* "${app}"/.jdk "${app}"/vendor/ruby-*; do
		[[ ! -d "${file}" ]] || trace="${file#"${app}/"}"
	done
	[[ "${PATH}" != *"/.heroku/"* ]] || trace="/.heroku/ in PATH"
	[[ -n "${trace}" ]] || return 0
	output::warn "a language's buildpack ran before tailrace (found: ${trace}); tailrace must be the first one:" \
		"heroku buildpacks:remove URL; heroku buildpacks:add --index 1 URL"
}

# report::lifecycle LAYERS: the same for a Cloud Native build. Each buildpack that has run has a directory beside ours,
# called by its id (Cloud Native Buildpack specification, platform.md, "Layers").
report::lifecycle() {
	[[ -e "${1%/*}/heroku_procfile/launch.toml" ]] || return 0
	output::warn "heroku/procfile ran before tailrace and has read the Procfile as it was, so nothing runs under tailrace;" \
		"in project.toml put tailrace before heroku/procfile"
}

# What to do where nothing was wrapped.
report::nothing() {
	local app="$1"
	settings::state TAILRACE_TYPES
	if [[ -e "${app}/Procfile" && -z "${REPLY}" ]]; then
		output::warn "nothing in the Procfile runs under tailrace: it has no entry with a command but release;" \
			"add one, or write before a command: tailrace run --"
		return 0
	fi
	if [[ -e "${app}/Procfile" ]]; then
		output::warn "nothing in the Procfile runs under tailrace; to change that: heroku config:unset TAILRACE_TYPES," \
			"or write before a command: tailrace run --"
		return 0
	fi
	guess::command "${app}"
	output::warn "there is no Procfile, so nothing runs under tailrace; add one with this line${REPLY:+ (or your own command)}:" \
		"web: ${REPLY:-COMMAND}"
}

report::summary() {
	local app="$1"
	if ((${#PROCFILE_WRAPPED[@]})); then
		report::list "${PROCFILE_WRAPPED[@]}"
		output::note "wrapped: ${REPLY} (as heroku ps shows; the Procfile of the repository stays as it is)"
	fi
	if ((${#PROCFILE_ALREADY[@]})); then
		report::list "${PROCFILE_ALREADY[@]}"
		output::note "under tailrace already: ${REPLY}"
	fi
	if ((${#PROCFILE_LEFT[@]})); then
		report::list "${PROCFILE_LEFT[@]}"
		output::note "not wrapped: ${REPLY}"
	fi
	if [[ -z "${PROCFILE_TROUBLE}" ]] && ((${#PROCFILE_WRAPPED[@]} + ${#PROCFILE_ALREADY[@]} == 0)); then
		report::nothing "${app}"
	fi
	settings::state TAILRACE_DRAIN_URL
	if [[ -n "${REPLY}" ]]; then
		output::note "drain: TAILRACE_DRAIN_URL is set"
	else
		output::note "drain: none; set it: heroku config:set TAILRACE_DRAIN_URL='https://…'"
	fi
	output::note "to try it: heroku run tailrace check" "to turn it off without a build: heroku config:set TAILRACE=off"
}

# report::note ORIGIN [FAILURE]: for bin/report, when there is a place for it.
report::note() {
	[[ -n "${CACHE-}" ]] || return 0
	{
		mkdir -p "${CACHE}" && {
			printf 'tailrace_version: "%s"\n' "${BINARY_VERSION-}"
			printf 'tailrace_triple: "%s"\n' "${BINARY_TRIPLE-}"
			printf 'tailrace_source: "%s"\n' "$1"
			printf 'tailrace_wrapped: %s\n' "${#PROCFILE_WRAPPED[@]}"
			printf 'tailrace_failure: "%s"\n' "${2-}"
		} >"${CACHE}/report"
	} 2>/dev/null || true
}
