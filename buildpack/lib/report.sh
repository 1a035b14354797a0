# shellcheck shell=bash
# Summary of the build, in the build log and for bin/report.

# report::join ITEM…: sets REPLY to "a, b, c".
report::join() {
	REPLY="$(printf ', %s' "$@")"
	REPLY="${REPLY#, }"
}

# report::check_order APP: warns when a language buildpack has run before this one: the platform takes default process types
# only from the last buildpack.
report::check_order() {
	local app="$1" found="" file
	for file in "${app}"/.heroku/* "${app}"/.jdk "${app}"/vendor/ruby-*; do
		[[ ! -d "${file}" ]] || found="${file#"${app}/"}"
	done
	[[ "${PATH}" != *"/.heroku/"* ]] || found="/.heroku/ in PATH"
	[[ -n "${found}" ]] || return 0
	output::warn "a language buildpack ran before tailrace (found: ${found}); tailrace must be the first one:" \
		"heroku buildpacks:remove URL; heroku buildpacks:add --index 1 URL"
}

# report::check_replacement APP: warns when a buildpack that replaces the Procfile will run after this one. Each has a config var. It ran
# before when what it moves is gone, or when what it copies is the Procfile already.
report::check_replacement() {
	local app="$1" name path procfile buildpack
	for name in PROCFILE APP_BASE PROJECT_PATH; do
		settings::get "${name}"
		path="${REPLY#/}"
		[[ -n "${path%/}" && "${path%/}" != . ]] || continue
		procfile="${app}/${path}/Procfile"
		case "${name}" in
		PROCFILE)
			procfile="${app}/${path}"
			buildpack="heroku-community/multi-procfile"
			;;
		APP_BASE) buildpack="heroku-buildpack-monorepo" ;;
		*) buildpack="subdir-heroku-buildpack" ;;
		esac
		[[ -e "${app}/${path}" ]] || continue
		! cmp --quiet "${procfile}" "${app}/Procfile" || continue
		output::warn "${name} is set: if ${buildpack} runs after tailrace, it replaces the wrapped Procfile, and nothing" \
			"runs under tailrace; put it first and tailrace behind it: heroku buildpacks:add --index 2 URL"
	done
}

# report::check_layer_order LAYERS: warns when heroku/procfile ran before this buildpack, and leaves the Procfile as it is. The layers of
# each buildpack that has run are in a directory named after its id, beside LAYERS (Cloud Native Buildpack specification, platform.md,
# "Layers").
report::check_layer_order() {
	[[ -e "${1%/*}/heroku_procfile/launch.toml" ]] || return 0
	PROCFILE_PROBLEM="heroku/procfile has read it"
	output::warn "heroku/procfile ran before tailrace and has read the unwrapped Procfile, so nothing runs under tailrace;" \
		"in project.toml put tailrace before heroku/procfile"
}

# report::nothing_wrapped APP: warns that nothing runs under tailrace, with what to do about it.
report::nothing_wrapped() {
	local app="$1"
	settings::is_set TAILRACE_TYPES
	if [[ -e "${app}/Procfile" && -z "${REPLY}" ]]; then
		output::warn "nothing in the Procfile runs under tailrace: it has no entry with a command except release;" \
			"add one, or begin a command with: tailrace run --"
		return 0
	fi
	if [[ -e "${app}/Procfile" ]]; then
		output::warn "nothing in the Procfile runs under tailrace; to change that: heroku config:unset TAILRACE_TYPES," \
			"or begin a command with: tailrace run --"
		return 0
	fi
	default_command::find "${app}"
	output::warn "there is no Procfile, so nothing runs under tailrace; add one with this line${REPLY:+ (or your own command)}:" \
		"web: ${REPLY:-COMMAND}"
}

# report::summary APP: what was wrapped, whether a drain is set, and what to do next.
report::summary() {
	local app="$1"
	if ((${#PROCFILE_WRAPPED[@]})); then
		report::join "${PROCFILE_WRAPPED[@]}"
		output::note "wrapped: ${REPLY} (heroku ps shows the wrapped commands; the Procfile in the repository is not changed)"
	fi
	if ((${#PROCFILE_ALREADY_WRAPPED[@]})); then
		report::join "${PROCFILE_ALREADY_WRAPPED[@]}"
		output::note "already under tailrace: ${REPLY}"
	fi
	if ((${#PROCFILE_UNWRAPPED[@]})); then
		report::join "${PROCFILE_UNWRAPPED[@]}"
		output::note "not wrapped: ${REPLY}"
	fi
	if [[ -z "${PROCFILE_PROBLEM}" ]] && ((${#PROCFILE_WRAPPED[@]} + ${#PROCFILE_ALREADY_WRAPPED[@]} == 0)); then
		report::nothing_wrapped "${app}"
	fi
	settings::is_set TAILRACE_DRAIN_URL
	if [[ -n "${REPLY}" ]]; then
		output::note "drain: TAILRACE_DRAIN_URL is set"
	else
		output::note "drain: none; set it: heroku config:set TAILRACE_DRAIN_URL='https://…'"
	fi
	output::note "to try it: heroku run tailrace check" "to turn it off without a build: heroku config:set TAILRACE=off"
}

# report::version_change: says which version the previous build installed, if it was another one, and keeps this one in the cache.
report::version_change() {
	local previous=""
	[[ -n "${CACHE}" ]] || return 0
	if [[ -r "${CACHE}/installed" ]]; then
		read -r previous <"${CACHE}/installed" || true
	fi
	[[ -z "${previous}" || "${previous}" == "${BINARY_VERSION}" ]] ||
		output::note "version: ${previous//[[:cntrl:]]/ } → ${BINARY_VERSION}"
	{ mkdir -p "${CACHE}" && printf '%s\n' "${BINARY_VERSION}" >"${CACHE}/installed"; } 2>/dev/null || true
}

# report::write ORIGIN [FAILURE]: writes the file that bin/report prints, if there is a cache directory for it.
report::write() {
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
