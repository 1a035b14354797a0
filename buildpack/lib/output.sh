# shellcheck shell=bash
# Messages of a build, in the style of Heroku's buildpacks (Dev Center, "Buildpack API", "Style"). Of config vars only these
# values are printed: TAILRACE_VERSION and TAILRACE_BUILD when they are wrong, the hosts of TAILRACE_MIRROR and
# RUSTUP_UPDATE_ROOT, and what `tailrace check` prints, which knows what is secret.

# output::step TEXT…: a heading.
output::step() {
	printf -- '-----> %s\n' "$*"
}

# output::note LINE…: information.
output::note() {
	printf '       %s\n' "$@"
}

# output::warn LINE…: something that the user should act on; goes to stderr.
output::warn() {
	printf ' !     %s\n' "$@" >&2
}

# output::fail KIND EXPECTED FOUND TO_DO: ends the build with one message.
output::fail() {
	local kind="$1" expected="$2" found="$3" to_do="$4"
	printf '\n' >&2
	output::warn "tailrace was not installed: ${kind}" "expected: ${expected}" "found:    ${found//$'\n'/ }" \
		"to do:    ${to_do}" "to read:  buildpack/docs/build.md, \"A build that fails\""
	printf '\n' >&2
	report::write "" "${kind}"
	exit 1
}

# output::unexpected FILE LINE COMMAND: the trap for commands that failed without being handled.
output::unexpected() {
	((BASH_SUBSHELL == 0)) || exit 1 # the parent shell reports it
	output::fail internal "no error in ${1#"${BUILDPACK}/"}, line $2" "this command failed: $3" \
		"build again; if it fails again, remove the buildpack and report this message"
}

# output::format_size BYTES: sets REPLY to the size in MB.
output::format_size() {
	local tenths=$((($1 + 50000) / 100000))
	REPLY="$((tenths / 10)).$((tenths % 10)) MB"
}
