# shellcheck shell=bash
# Files of ours in the app.

# Makes a directory, unless something stands in its way.
install::directory() {
	local said
	said="$(mkdir -p "$1" 2>&1)" || output::fail in-the-way "${1##*/build_*/} to be a directory, or not there" \
		"${said}" "remove it from the repository"
}

# install::file FROM TO MODE: also over a file or a link, unless something else stands in its way.
install::file() {
	local said
	said="$(rm -f "$2" 2>&1 && install -T -m "$3" "$1" "$2" 2>&1)" ||
		output::fail in-the-way "${2##*/build_*/} to be a file, or not there" "${said}" "remove it from the repository"
}

# What the Procfile's lines name: it becomes the binary, or the app when there is none that runs.
install::launcher() {
	install::directory "$1"
	install::file "${BUILDPACK}/buildpack/launcher" "$1/tailrace" 755
}

# PATH, so that `heroku run tailrace check` finds it.
install::profile() {
	install::directory "$1/.profile.d"
	install::file "${BUILDPACK}/buildpack/profile.d/tailrace.sh" "$1/.profile.d/tailrace.sh" 644
}
