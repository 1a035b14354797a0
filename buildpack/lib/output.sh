# shellcheck shell=bash
# What a build says, as buildpacks say it (Dev Center, "Buildpack API", "Style"). Nothing of the app's settings but
# what is named here, and never a secret.

output::step() {
	printf -- '-----> %s\n' "$*"
}

# Each argument is a line.
output::note() {
	printf '       %s\n' "$@"
}

# The same for what somebody should act on.
output::warn() {
	printf ' !     %s\n' "$@" >&2
}

# output::fail KIND EXPECTED FOUND TO_DO ends the build with the one message that says why.
output::fail() {
	local kind="$1" expected="$2" found="$3" to_do="$4"
	printf '\n' >&2
	output::warn "tailrace was not installed: ${kind}" "expected: ${expected}" "found:    ${found//$'\n'/ }" \
		"to do:    ${to_do}" "to read:  buildpack/docs/build.md, \"A build that fails\""
	printf '\n' >&2
	report::note "" "${kind}"
	exit 1
}

# A command that nobody thought could fail.
output::broken() {
	((BASH_SUBSHELL == 0)) || exit 1 # whoever waits for this shell says it
	output::fail internal "no trouble in ${1#"${BUILDPACK}/"}, line $2" "this failed: $3" \
		"build again; if it stays, remove the buildpack and report this message"
}

# A size in bytes as people read it, in REPLY.
output::size() {
	local tenths=$((($1 + 50000) / 100000))
	REPLY="$((tenths / 10)).$((tenths % 10)) MB"
}
