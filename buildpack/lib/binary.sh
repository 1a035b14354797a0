# shellcheck shell=bash
# The binary: chosen by version and machine, taken from the first source that has it, verified twice.

BINARY_VERSION=""
BINARY_TRIPLE=""
BINARY_SUM=""
BINARY_MIRROR=""
BINARY_ARCHIVE="" # its file, once it is found
BINARY_ORIGIN=""  # vendored, cached or downloaded

# binary::choose ARCH PINS: what to install on this machine, or on ARCH (amd64, arm64).
binary::choose() {
	local machine="$1" pins="$2" wanted first rest triple sum
	local -a versions=()
	[[ -n "${machine}" ]] || machine="$(uname -m)"
	case "${machine}" in
	x86_64 | amd64) BINARY_TRIPLE=x86_64-unknown-linux-musl ;;
	aarch64 | arm64) BINARY_TRIPLE=aarch64-unknown-linux-musl ;;
	*) output::fail unknown-architecture "x86_64 or aarch64" "${machine}" "build on a Heroku stack" ;;
	esac
	settings::get TAILRACE_VERSION
	wanted="${REPLY}"
	while read -r first rest; do
		case "${first}" in
		"" | "#"*) ;;
		mirror) BINARY_MIRROR="${rest}" ;;
		*)
			[[ " ${versions[*]} " == *" ${first} "* ]] || versions+=("${first}")
			read -r triple sum <<<"${rest}"
			if [[ "${first}" == "${wanted:-${versions[0]}}" && "${triple}" == "${BINARY_TRIPLE}" ]]; then
				BINARY_VERSION="${first}"
				BINARY_SUM="${sum}"
			fi
			;;
		esac
	done <"${pins}"
	if ((${#versions[@]} == 0)); then
		output::fail no-release "a version in buildpack/checksums" "none: these are sources, not a release" \
			"use a released tailrace-buildpack-VERSION.tgz, or make one: buildpack/package"
	fi
	[[ -n "${BINARY_SUM}" ]] || output::fail unknown-version "in TAILRACE_VERSION one of ${versions[*]}" \
		"${wanted:-${versions[0]}} for ${BINARY_TRIPLE}" "heroku config:unset TAILRACE_VERSION"
}

# Why a file is not the archive that is pinned, in REPLY: nothing when it is.
binary::compare() {
	local sum
	REPLY="none"
	[[ -e "$1" ]] || return 0
	REPLY="it cannot be read"
	sum="$(sha256sum 2>/dev/null <"$1")" || return 0
	sum="${sum%% *}"
	REPLY=""
	[[ "${sum}" == "${BINARY_SUM}" ]] || REPLY="its SHA-256 is ${sum}"
}

# An address as it may be shown: with its host, without what may be a secret.
binary::shown() {
	local rest="${1#*://}"
	REPLY="$1"
	[[ "$1" == file://* ]] && return 0
	# Up to the last @, which may stand behind a slash: it ends a password that somebody did not encode.
	rest="${rest##*@}"
	REPLY="${1%%://*}://${rest%%[/?#]*}/…"
}

# binary::download NAME FILE: from the mirror. Why there is none, in REPLY: nothing when there is.
binary::download() {
	local mirror shown said status
	settings::get TAILRACE_MIRROR
	mirror="${REPLY:-${BINARY_MIRROR}}"
	mirror="${mirror//'{version}'/${BINARY_VERSION}}"
	mirror="${mirror// /%20}"
	if [[ -z "${mirror}" ]]; then
		REPLY="no mirror is set"
		return
	fi
	# Before anything is shown of it, or taken for an option of curl's.
	if [[ "${mirror}" != https://* && "${mirror}" != file://* ]]; then
		REPLY="the mirror's address does not begin with https:// or file://"
		return
	fi
	binary::shown "${mirror}"
	shown="${REPLY}"
	output::note "downloading from ${shown}"
	for _ in 1 2 3; do
		status=0
		# 18 is a transfer that broke off, which curl itself does not try again.
		said="$(curl --disable --globoff --fail --location --no-progress-meter --proto '=https,file' --proto-redir '=https' \
			--connect-timeout "${CURL_CONNECT_TIMEOUT:-5}" --max-time "${CURL_TIMEOUT:-60}" --max-filesize 33554432 \
			--retry 5 --retry-connrefused --retry-max-time "${CURL_TIMEOUT:-60}" --output "$2" --url "${mirror%/}/$1" 2>&1)" || status=$?
		((status == 18)) || break
	done
	if ((status)); then
		said="${said##*$'\n'}" # the others tell of attempts
		REPLY="${said:-curl ended with ${status}}"
	else
		binary::compare "$2"
	fi
	REPLY="${REPLY:+${shown}: ${REPLY}}"
}

# Finds the archive. The directory is for one that has to be downloaded.
binary::find() {
	local name="tailrace-${BINARY_VERSION}-${BINARY_TRIPLE}.tar.gz"
	local -a reasons=()
	BINARY_ORIGIN=vendored
	BINARY_ARCHIVE="${BUILDPACK}/buildpack/vendor/${name}"
	binary::compare "${BINARY_ARCHIVE}"
	[[ -n "${REPLY}" ]] || return 0
	reasons+=("vendored: ${REPLY}")
	[[ "${REPLY}" == none ]] || output::warn "the vendored archive is not used: ${REPLY}"

	BINARY_ORIGIN=cached
	BINARY_ARCHIVE="${CACHE:-/nowhere}/${name}"
	binary::compare "${BINARY_ARCHIVE}"
	[[ -n "${REPLY}" ]] || return 0
	reasons+=("cached: ${REPLY}")
	[[ "${REPLY}" == none ]] || output::note "the cached archive is not used: ${REPLY}"

	BINARY_ORIGIN=downloaded
	BINARY_ARCHIVE="$1/${name}"
	binary::download "${name}" "${BINARY_ARCHIVE}"
	[[ -n "${REPLY}" ]] || return 0
	reasons+=("downloaded: ${REPLY}")
	output::fail no-binary "${name} with SHA-256 ${BINARY_SUM}" "$(printf '%s; ' "${reasons[@]}")" \
		"build again later, set TAILRACE_MIRROR, or use tailrace-buildpack-${BINARY_VERSION}.tgz, which has it inside"
}

# Keeps the archive for the next build, and nothing else.
binary::keep() {
	local file name="${BINARY_ARCHIVE##*/}"
	[[ -n "${CACHE}" ]] || return 0
	if [[ "${BINARY_ORIGIN}" == downloaded ]]; then
		if ! { mkdir -p "${CACHE}" && cp "${BINARY_ARCHIVE}" "${CACHE}/.new" &&
			mv -f "${CACHE}/.new" "${CACHE}/${name}"; } 2>/dev/null; then
			output::note "the archive cannot be cached: the build's cache is not writable"
		fi
	fi
	for file in "${CACHE}"/tailrace-*; do
		[[ "${BINARY_ORIGIN}" != vendored && "${file}" == "${CACHE}/${name}" ]] || rm -f "${file}" 2>/dev/null || true
	done
}

# Puts the binary into a directory, as tailrace-agent.
binary::install() {
	local into="$1" stage program said status=0 size packed
	install::directory "${into}"
	stage="$(mktemp -d "${into}/.stage.XXXXXX")"
	# shellcheck disable=SC2064 # as it is now
	trap "rm -rf $(printf '%q' "${stage}")" EXIT
	binary::find "${stage}"
	said="$(tar -xzf "${BINARY_ARCHIVE}" -C "${stage}" tailrace 2>&1)" ||
		output::fail bad-archive "a program named tailrace in ${BINARY_ARCHIVE##*/}, and room for it" "${said}" \
			"make room when the disk is full, else use another release: this one was packed wrong"
	chmod 755 "${stage}/tailrace"
	# bash in between: timeout would take a program for another machine for a script.
	program="${stage}/tailrace"
	said="$(timeout 20 bash -pc "exec ${program@Q} --version" 2>&1 </dev/null)" || status=$?
	if [[ "${status} ${said}" != "0 tailrace ${BINARY_VERSION}" ]]; then
		output::fail bad-binary "\"tailrace ${BINARY_VERSION}\" when asked for its version" \
			"\"${said//"${stage}/"/}\", status ${status}" "use another release: this one does not run here"
	fi
	size="$(stat --format=%s "${stage}/tailrace")"
	packed="$(stat --format=%s "${BINARY_ARCHIVE}")"
	install::file "${stage}/tailrace" "${into}/tailrace-agent" 755
	binary::keep
	output::size "${size}"
	said="${REPLY}"
	output::size "${packed}"
	output::note "binary: ${BINARY_ORIGIN}, ${said}; it adds ${REPLY} to the slug"
}
