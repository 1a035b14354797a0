# shellcheck shell=bash
# The binary: chosen by version and machine, taken from the first place that has it, else built (sources.sh). Verified twice: the
# SHA-256 of the archive, and the version that the unpacked program prints.

BINARY_VERSION=""
BINARY_TRIPLE=""
BINARY_SHA256=""
BINARY_MIRROR=""
BINARY_ARCHIVE="" # path, set by binary::find
BINARY_ORIGIN=""  # vendored, cached, downloaded, built

# binary::choose ARCH CHECKSUMS: sets version, triple and SHA-256 for ARCH (amd64, arm64), or for this machine when ARCH is
# empty. CHECKSUMS is a file in the format of buildpack/checksums.
binary::choose() {
	local machine="$1" checksums="$2" wanted build first rest triple sha256
	local -a versions=()
	[[ -n "${machine}" ]] || machine="$(uname -m)"
	case "${machine}" in
	x86_64 | amd64) BINARY_TRIPLE=x86_64-unknown-linux-musl ;;
	aarch64 | arm64) BINARY_TRIPLE=aarch64-unknown-linux-musl ;;
	*) output::fail unknown-architecture "x86_64 or aarch64" "${machine}" "build on a Heroku stack" ;;
	esac
	settings::build
	build="${REPLY}"
	settings::get TAILRACE_VERSION
	wanted="${REPLY}"
	while read -r first rest; do
		case "${first}" in
		"" | "#"*) ;;
		mirror) BINARY_MIRROR="${rest}" ;;
		*)
			[[ " ${versions[*]} " == *" ${first} "* ]] || versions+=("${first}")
			read -r triple sha256 <<<"${rest}"
			if [[ "${first}" == "${wanted:-${versions[0]}}" && "${triple}" == "${BINARY_TRIPLE}" ]]; then
				BINARY_VERSION="${first}"
				BINARY_SHA256="${sha256}"
			fi
			;;
		esac
	done <"${checksums}"
	sources::find_manifest
	if [[ "${build}" == always || "${#versions[@]} ${build} ${REPLY}" == "0 auto found" ]]; then
		sources::select "${wanted}"
		return
	fi
	if ((${#versions[@]} == 0)); then
		output::fail no-release "a version in buildpack/checksums" \
			"none: this is not a release${REPLY:+, and TAILRACE_BUILD is never}" \
			"use a released tailrace-buildpack-VERSION.tgz, or make one: buildpack/package${REPLY:+; or heroku config:unset TAILRACE_BUILD}"
	fi
	[[ -n "${BINARY_SHA256}" ]] || output::fail unknown-version "in TAILRACE_VERSION one of ${versions[*]}" \
		"${wanted:-${versions[0]}} for ${BINARY_TRIPLE}" "heroku config:unset TAILRACE_VERSION"
}

# binary::verify FILE: sets REPLY to the reason why FILE cannot be used; empty when it is the expected archive.
binary::verify() {
	local sha256
	REPLY="none"
	[[ -e "$1" ]] || return 0
	REPLY="it cannot be read"
	sha256="$(sha256sum 2>/dev/null <"$1")" || return 0
	sha256="${sha256%% *}"
	REPLY=""
	[[ "${sha256}" == "${BINARY_SHA256}" ]] || REPLY="its SHA-256 is ${sha256}"
}

# binary::redact URL: sets REPLY to scheme and host; everything else may contain a secret. A file URL is kept whole.
binary::redact() {
	local rest="${1#*://}"
	REPLY="$1"
	[[ "$1" == file://* ]] && return 0
	# Remove up to the last @, even behind a slash: a password may contain a slash that was not percent-encoded.
	rest="${rest##*@}"
	REPLY="${1%%://*}://${rest%%[/?#]*}/…"
}

# binary::fetch URL FILE: downloads URL to FILE. Sets REPLY to the reason of a failure; empty when it succeeded.
binary::fetch() {
	local message status
	# Check this before curl could take it for an option. Without TLS only on this machine.
	if [[ ! "$1" =~ ^(https://|file://|http://(127\.0\.0\.1|localhost)(:[0-9]+)?/) ]]; then
		REPLY="the address does not begin with https:// or file://"
		return
	fi
	for _ in 1 2 3; do
		status=0
		# Status 18 is a partial transfer, which curl does not retry.
		message="$(curl --disable --globoff --fail --location --no-progress-meter --proto '=https,http,file' --proto-redir '=https' \
			--connect-timeout "${CURL_CONNECT_TIMEOUT:-5}" --max-time "${CURL_TIMEOUT:-60}" --max-filesize 33554432 \
			--retry 5 --retry-connrefused --retry-max-time "${CURL_TIMEOUT:-60}" --output "$2" --url "$1" 2>&1)" || status=$?
		((status == 18)) || break
	done
	REPLY=""
	((status == 0)) || REPLY="${message##*$'\n'}" # earlier lines are about retries
	[[ -n "${REPLY}" ]] || ((status == 0)) || REPLY="curl exited with ${status}"
}

# binary::download NAME FILE: downloads the archive NAME from the mirror to FILE. Sets REPLY to the reason of a failure; empty
# when FILE is the expected archive.
binary::download() {
	local mirror redacted
	settings::get TAILRACE_MIRROR
	mirror="${REPLY:-${BINARY_MIRROR}}"
	mirror="${mirror//'{version}'/${BINARY_VERSION}}"
	mirror="${mirror// /%20}"
	if [[ -z "${mirror}" ]]; then
		REPLY="no mirror is set"
		return
	fi
	# Check this before the address is printed.
	if [[ "${mirror}" != https://* && "${mirror}" != file://* ]]; then
		REPLY="the mirror's address does not begin with https:// or file://"
		return
	fi
	binary::redact "${mirror}"
	redacted="${REPLY}"
	output::note "downloading from ${redacted}"
	binary::fetch "${mirror%/}/$1" "$2"
	[[ -n "${REPLY}" ]] || binary::verify "$2"
	REPLY="${REPLY:+${redacted}: ${REPLY}}"
}

# binary::replace_by_build: sets REPLY to "yes" when the sources may replace an archive that cannot be had, else to nothing.
binary::replace_by_build() {
	local build wanted
	settings::build
	build="${REPLY}"
	settings::get TAILRACE_VERSION
	wanted="${REPLY}"
	sources::find_manifest
	if [[ "${build} ${REPLY}" == "auto found" ]]; then
		sources::read_version
		if [[ -z "${wanted}" || "${wanted}" == "${REPLY}" ]]; then
			REPLY="yes"
			return
		fi
	fi
	REPLY=""
}

# binary::find DIRECTORY: sets BINARY_ARCHIVE and BINARY_ORIGIN. A downloaded or built archive is put into DIRECTORY.
binary::find() {
	local name="tailrace-${BINARY_VERSION}-${BINARY_TRIPLE}.tar.gz"
	local -a reasons=()
	if [[ -n "${SOURCES_VERSION}" ]]; then
		sources::find "$1"
		return
	fi
	BINARY_ORIGIN=vendored
	BINARY_ARCHIVE="${BUILDPACK}/buildpack/vendor/${name}"
	binary::verify "${BINARY_ARCHIVE}"
	[[ -n "${REPLY}" ]] || return 0
	reasons+=("vendored: ${REPLY}")
	[[ "${REPLY}" == none ]] || output::warn "the vendored archive is not used: ${REPLY}"

	BINARY_ORIGIN=cached
	BINARY_ARCHIVE="${CACHE:-/nowhere}/${name}"
	binary::verify "${BINARY_ARCHIVE}"
	[[ -n "${REPLY}" ]] || return 0
	reasons+=("cached: ${REPLY}")
	[[ "${REPLY}" == none ]] || output::note "the cached archive is not used: ${REPLY}"

	BINARY_ORIGIN=downloaded
	BINARY_ARCHIVE="$1/${name}"
	binary::download "${name}" "${BINARY_ARCHIVE}"
	[[ -n "${REPLY}" ]] || return 0
	reasons+=("downloaded: ${REPLY}")
	binary::replace_by_build
	if [[ -n "${REPLY}" ]]; then
		output::note "${name} cannot be had: $(printf '%s; ' "${reasons[@]}")"
		sources::select ""
		sources::find "$1"
		return
	fi
	output::fail no-binary "${name} with SHA-256 ${BINARY_SHA256}" "$(printf '%s; ' "${reasons[@]}")" \
		"build again later, set TAILRACE_MIRROR, or use tailrace-buildpack-${BINARY_VERSION}.tgz, which contains it"
}

# Caches a downloaded or built archive for the next build, and removes all other archives from the cache.
binary::update_cache() {
	local file name="${BINARY_ARCHIVE##*/}"
	[[ -n "${CACHE}" ]] || return 0
	if [[ "${BINARY_ORIGIN}" == downloaded || "${BINARY_ORIGIN}" == "built from these sources" ]]; then
		if ! { mkdir -p "${CACHE}" && cp "${BINARY_ARCHIVE}" "${CACHE}/.new" &&
			mv -f "${CACHE}/.new" "${CACHE}/${name}"; } 2>/dev/null; then
			output::note "the archive cannot be cached: the build cache is not writable"
		fi
	fi
	for file in "${CACHE}"/tailrace-*; do
		[[ "${BINARY_ORIGIN}" != vendored && "${file}" == "${CACHE}/${name}" ]] || rm -f "${file}" 2>/dev/null || true
	done
	sources::update_cache
}

# binary::install DIRECTORY: installs the binary as DIRECTORY/tailrace-agent.
binary::install() {
	local into="$1" staging program message status=0 size packed_size
	install::directory "${into}"
	staging="$(mktemp -d "${into}/.staging.XXXXXX")"
	# shellcheck disable=SC2064 # expand now: the variable is local
	trap "rm -rf $(printf '%q' "${staging}")" EXIT
	binary::find "${staging}"
	message="$(tar -xzf "${BINARY_ARCHIVE}" -C "${staging}" tailrace 2>&1)" ||
		output::fail bad-archive "a program named tailrace in ${BINARY_ARCHIVE##*/}, and disk space to unpack it" "${message}" \
			"free disk space if the disk is full, else use another release: this archive is defective"
	program="${staging}/tailrace"
	chmod 755 "${program}"
	# Through bash: on ENOEXEC timeout runs the program as a shell script, whose errors would hide the cause.
	message="$(timeout 20 bash -pc "exec ${program@Q} --version" 2>&1 </dev/null)" || status=$?
	if [[ "${status} ${message}" != "0 tailrace ${BINARY_VERSION}" ]]; then
		output::fail bad-binary "\"tailrace ${BINARY_VERSION}\" when asked for its version" \
			"\"${message//"${staging}/"/}\", status ${status}" "use another release: this program does not run here"
	fi
	size="$(stat --format=%s "${program}")"
	packed_size="$(stat --format=%s "${BINARY_ARCHIVE}")"
	install::file "${program}" "${into}/tailrace-agent" 755
	binary::update_cache
	output::format_size "${size}"
	size="${REPLY}"
	output::format_size "${packed_size}"
	output::note "binary: ${BINARY_ORIGIN}, ${size}; it adds ${REPLY} to the ${RESULT}"
	report::version_change
}
