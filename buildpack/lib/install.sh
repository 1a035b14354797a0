# shellcheck shell=bash
# Installs files into the app.

# install::directory DIRECTORY: creates it; fails the build when another file has its path.
install::directory() {
	local message
	message="$(mkdir -p "$1" 2>&1)" || output::fail in-the-way "${1##*/build_*/} to be a directory, or not to exist" \
		"${message}" "remove it from the repository"
}

# install::file FROM TO MODE: replaces a file or a link; fails the build when a directory has its path.
install::file() {
	local message
	message="$(rm -f "$2" 2>&1 && install -T -m "$3" "$1" "$2" 2>&1)" ||
		output::fail in-the-way "${2##*/build_*/} to be a file, or not to exist" "${message}" "remove it from the repository"
}

# install::launcher DIRECTORY: the script that wrapped Procfile entries start (buildpack/launcher).
install::launcher() {
	install::directory "$1"
	install::file "${BUILDPACK}/buildpack/launcher" "$1/tailrace" 755
}

# install::profile APP: adds tailrace to PATH in the dyno, for `heroku run tailrace check`.
install::profile() {
	install::directory "$1/.profile.d"
	install::file "${BUILDPACK}/buildpack/profile.d/tailrace.sh" "$1/.profile.d/tailrace.sh" 644
}
