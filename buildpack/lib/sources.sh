# shellcheck shell=bash
# Builds the binary from the sources beside the buildpack: a buildpack from git has them, a release does not. With the Rust that is
# installed, else with the toolchain of buildpack/toolchain, which is put into the build cache. What was built is cached too, and
# used as long as the sources are the same.

SOURCES_VERSION="" # what the built program prints as its version, such as 0.1.0+git.1a2b3c4d5e6f
SOURCES_KEY=""     # SHA-256 of the sources and of what else decides about the result

readonly SOURCES_NETWORK='(failed to (download|get|fetch|load source)|could(n.t| not) resolve|unable to update|network (error|failure)|connection refused)'

# sources::find_manifest: sets REPLY to "found" when the sources are there, else to nothing.
sources::find_manifest() {
	REPLY=""
	[[ ! -f "${BUILDPACK}/Cargo.toml" || ! -d "${BUILDPACK}/agent" ]] || REPLY="found"
}

# sources::read_version: sets REPLY to the version in Cargo.toml.
sources::read_version() {
	REPLY="$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "${BUILDPACK}/Cargo.toml")"
}

# sources::find_commit: sets REPLY to the commit of the sources, with ".modified" when they differ from it; empty without git.
sources::find_commit() {
	local changes
	# The directory may belong to another user.
	local -a git=(env -u GIT_DIR -u GIT_WORK_TREE git -c "safe.directory=*" -C "${BUILDPACK}")
	REPLY=""
	[[ -e "${BUILDPACK}/.git" ]] || return 0
	REPLY="$("${git[@]}" rev-parse --short=12 HEAD 2>/dev/null)" || REPLY=""
	[[ -n "${REPLY}" ]] || return 0
	changes="$("${git[@]}" status --porcelain -- Cargo.toml Cargo.lock agent 2>/dev/null)" || changes="unknown"
	REPLY+="${changes:+.modified}"
}

# sources::select WANTED: makes these sources what is installed. WANTED is TAILRACE_VERSION.
sources::select() {
	local wanted="$1" version sum
	sources::find_manifest
	[[ -n "${REPLY}" ]] || output::fail no-sources "the sources of tailrace beside the buildpack" \
		"none: this is a release, and TAILRACE_BUILD is always" "heroku config:unset TAILRACE_BUILD"
	sources::read_version
	version="${REPLY}"
	[[ -z "${wanted}" || "${wanted}" == "${version}" ]] || output::fail unknown-version \
		"in TAILRACE_VERSION ${version}, the version of the sources that are built" "${wanted}" \
		"heroku config:unset TAILRACE_VERSION"
	sum="$(cd "${BUILDPACK}" && find Cargo.toml Cargo.lock agent buildpack/toolchain -type f -print0 | sort -z |
		xargs -0 sha256sum | sha256sum)"
	sum="${sum%% *}"
	SOURCES_VERSION="${version}+sources.${sum:0:12}"
	sources::find_commit
	[[ -z "${REPLY}" ]] || SOURCES_VERSION="${version}+git.${REPLY}"
	sum="$(printf '%s\n' "${sum}" "${SOURCES_VERSION}" "${STACK-}" "${BINARY_TRIPLE}" | sha256sum)"
	SOURCES_KEY="${sum%% *}"
	BINARY_VERSION="${SOURCES_VERSION}"
}

# sources::fail KIND EXPECTED FOUND: ends the build with the ways to get the binary from somewhere else.
sources::fail() {
	output::fail "$1" "$2" "$3" "build again later; or use a release: tailrace-buildpack-VERSION.tgz contains the binary; or name a \
mirror that has the archives of buildpack/checksums in TAILRACE_MIRROR; or have Rust installed by a buildpack that runs before. \
With TAILRACE_BUILD=never nothing is built from sources"
}

# sources::run LOG COMMAND…: runs it with its output, indented, in the build log, and in the file LOG. Sets REPLY to its exit status.
sources::run() {
	local log="$1"
	shift
	REPLY=0
	"$@" 2>&1 </dev/null | tee "${log}" | sed -u -E 's/^[[:space:]]*/       /' || REPLY=$?
}

# sources::reason LOG STATUS: sets REPLY to the first error in LOG, else to its last line.
sources::reason() {
	REPLY="$(grep -m 1 -E '^error' "$1" || tail -n 1 "$1")"
	REPLY="${REPLY#"${REPLY%%[![:space:]]*}"}"
	case "$2" in
	124) REPLY="it was stopped because it took too long; the last line: $(tail -n 1 "$1")" ;;
	137) REPLY="it was killed, probably for want of memory" ;;
	*) REPLY="${REPLY:-it ended with status $2}" ;;
	esac
	! grep -q 'signal: 9, SIGKILL' "$1" || REPLY="the compiler was killed, probably for want of memory"
}

# sources::check_cargo: sets REPLY to the reason why the cargo in PATH is not used; empty when it is.
sources::check_cargo() {
	local needed found
	needed="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "${BUILDPACK}/Cargo.toml")"
	REPLY="there is no cargo in PATH"
	command -v cargo >/dev/null || return 0
	# In the root directory: rust-toolchain.toml is for those who work on tailrace, and that of the app is for the app.
	if ! found="$(env -C / timeout 60 cargo --version 2>&1 </dev/null)"; then
		REPLY="cargo does not run: ${found##*$'\n'}"
		return 0
	fi
	REPLY="${found} is too old, ${needed} is needed"
	found="${found#cargo }"
	! printf '%s\n' "${needed}" "${found%% *}" | sort --check=quiet --version-sort || REPLY=""
}

# sources::install_toolchain HOME STAGING: installs the toolchain of buildpack/toolchain below HOME, unless it is there, and puts it
# into PATH. STAGING is a directory for temporary files.
sources::install_toolchain() {
	local home="$1" staging="$2" machine="${BINARY_TRIPLE%%-*}" first second third fourth rust="" rustup="" sha256="" root bin
	while read -r first second third fourth; do
		case "${first} ${third}" in
		"rust ") rust="${second}" ;;
		"rustup ${machine}")
			rustup="${second}"
			sha256="${fourth}"
			;;
		*) ;;
		esac
	done <"${BUILDPACK}/buildpack/toolchain"
	export RUSTUP_HOME="${home}/rustup" CARGO_HOME="${home}/cargo"
	bin="${RUSTUP_HOME}/toolchains/${rust}-${machine}-unknown-linux-gnu/bin"
	PATH="${bin}:${PATH}"
	if [[ -d "${bin}/../lib/rustlib/${BINARY_TRIPLE}" ]] && env -C / timeout 60 cargo --version >/dev/null 2>&1; then
		output::note "Rust ${rust}: from the build cache"
		return
	fi
	rm -rf "${RUSTUP_HOME}"
	settings::get RUSTUP_UPDATE_ROOT
	root="${REPLY:-${RUSTUP_UPDATE_ROOT:-https://static.rust-lang.org/rustup}}"
	settings::get RUSTUP_DIST_SERVER
	[[ -z "${REPLY}" ]] || export RUSTUP_DIST_SERVER="${REPLY}"
	binary::redact "${root}"
	output::note "installing Rust ${rust} into the build cache, with rustup ${rustup} from ${REPLY}"
	local expected="rustup-init ${rustup} from ${REPLY} with SHA-256 ${sha256}"
	binary::fetch "${root%/}/archive/${rustup}/${machine}-unknown-linux-gnu/rustup-init" "${staging}/rustup-init"
	[[ -z "${REPLY}" ]] || sources::fail no-toolchain "${expected}" "${REPLY}"
	BINARY_SHA256="${sha256}"
	binary::verify "${staging}/rustup-init"
	[[ -z "${REPLY}" ]] || sources::fail no-toolchain "${expected}" "${REPLY}"
	chmod 755 "${staging}/rustup-init"
	sources::run "${staging}/log" env -C / timeout 400 "${staging}/rustup-init" -y --no-modify-path --profile minimal \
		--default-toolchain "${rust}" --target "${BINARY_TRIPLE}"
	if ((REPLY)); then
		sources::reason "${staging}/log" "${REPLY}"
		sources::fail no-toolchain "Rust ${rust} for ${BINARY_TRIPLE}, which rustup installs" "${REPLY}"
	fi
	rm -rf "${home}/cargo/bin" "${home}/rustup/downloads" "${home}/rustup/tmp" # only the toolchain is used
}

# sources::choose_target: sets REPLY to the target to build for: static when the toolchain has it or rustup can add it.
sources::choose_target() {
	local libraries
	for _ in installed added; do
		libraries="$(env -C / rustc --print target-libdir --target "${BINARY_TRIPLE}" 2>/dev/null)" || libraries=""
		if [[ -n "${libraries}" && -d "${libraries}" ]]; then
			REPLY="${BINARY_TRIPLE}"
			return
		fi
		command -v rustup >/dev/null || break
		env -C / timeout 120 rustup target add "${BINARY_TRIPLE}" >/dev/null 2>&1 || break
	done
	REPLY="$(env -C / rustc --version --verbose | sed -n 's/^host: //p')"
	output::note "not static: this Rust cannot build for ${BINARY_TRIPLE}; it runs where the C library is not older than here"
}

# sources::build STAGING: builds the binary and packs it as a release does. Sets BINARY_ARCHIVE and BINARY_SHA256.
sources::build() {
	local staging="$1" home="${CACHE}" machine target lock
	machine="$(uname -m)"
	[[ "${machine/arm64/aarch64}" == "${BINARY_TRIPLE%%-*}" ]] || sources::fail build-failed \
		"a build on ${BINARY_TRIPLE%%-*}: sources are built for the machine that builds" "a build on ${machine}"
	command -v cc >/dev/null || sources::fail build-failed "a C compiler (cc), which the build needs" "none in PATH"
	output::note "building it from these sources: some minutes, once for each version"
	if [[ -z "${home}" ]] || ! mkdir -p "${home}/target" 2>/dev/null; then
		home="${staging}/build"
		mkdir -p "${home}/target"
		output::note "nothing is kept for the next build: the build cache is not writable"
	fi
	home="$(cd "${home}" && pwd -P)"
	# Other dependencies: begin anew, or the cache would grow with each update.
	lock="$(cat "${BUILDPACK}/Cargo.lock" "${BUILDPACK}/buildpack/toolchain" | sha256sum)"
	if [[ -e "${home}/lock" && "$(<"${home}/lock")" != "${lock}" ]]; then
		rm -rf "${home}/target" "${home}/cargo"
		mkdir "${home}/target"
	fi
	printf '%s\n' "${lock}" >"${home}/lock"
	sources::check_cargo
	if [[ -z "${REPLY}" ]]; then
		# HOME may be a directory of the slug.
		[[ -v CARGO_HOME || -d "${HOME-}/.cargo" ]] || export CARGO_HOME="${home}/cargo"
	else
		output::note "${REPLY}"
		sources::install_toolchain "${home}" "${staging}"
	fi
	sources::choose_target
	target="${REPLY}"
	sources::run "${staging}/log" env -C / -u GIT_DIR TAILRACE_BUILD_VERSION="${SOURCES_VERSION}" \
		CARGO_TARGET_DIR="${home}/target" CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never \
		CC_x86_64_unknown_linux_musl="${CC_x86_64_unknown_linux_musl:-cc}" \
		CC_aarch64_unknown_linux_musl="${CC_aarch64_unknown_linux_musl:-cc}" \
		timeout 800 cargo build --release --locked --bin tailrace --target "${target}" \
		--manifest-path "${BUILDPACK}/Cargo.toml"
	if ((REPLY)); then
		sources::reason "${staging}/log" "${REPLY}"
		! grep -qiE "${SOURCES_NETWORK}" "${staging}/log" || sources::fail no-dependencies \
			"the crates of Cargo.lock, from the registry that cargo uses (crates.io)" "${REPLY}"
		sources::fail build-failed "cargo to build these sources" "${REPLY}"
	fi
	mkdir "${staging}/packed"
	cp "${home}/target/${target}/release/tailrace" "${BUILDPACK}"/LICENSE-* "${staging}/packed/"
	BINARY_ARCHIVE="${staging}/tailrace-${BINARY_VERSION}-${BINARY_TRIPLE}.tar.gz"
	tar -czf "${BINARY_ARCHIVE}" --owner=0 --group=0 -C "${staging}/packed" LICENSE-APACHE LICENSE-MIT tailrace
	BINARY_SHA256="$(sha256sum <"${BINARY_ARCHIVE}")"
	BINARY_SHA256="${BINARY_SHA256%% *}"
}

# sources::find STAGING: sets BINARY_ARCHIVE and BINARY_ORIGIN: what was built from the same sources before, else a new build.
sources::find() {
	local key="" sha256=""
	BINARY_ORIGIN="built before"
	if [[ -f "${CACHE:-/nowhere}/built" ]]; then
		read -r key sha256 <"${CACHE}/built" || true
	fi
	if [[ "${key}" == "${SOURCES_KEY}" ]]; then
		BINARY_SHA256="${sha256}"
		BINARY_ARCHIVE="${CACHE}/tailrace-${BINARY_VERSION}-${BINARY_TRIPLE}.tar.gz"
		binary::verify "${BINARY_ARCHIVE}"
		[[ -n "${REPLY}" ]] || return 0
		output::note "the cached archive is not used: ${REPLY}"
	fi
	BINARY_ORIGIN="built from these sources"
	sources::build "$1"
}

# sources::update_cache: keeps what the next build from sources needs, or removes it after a build that did not need it.
sources::update_cache() {
	[[ -n "${CACHE}" ]] || return 0
	if [[ -n "${SOURCES_KEY}" ]]; then
		printf '%s %s\n' "${SOURCES_KEY}" "${BINARY_SHA256}" 2>/dev/null >"${CACHE}/built" || true
	else
		rm -rf "${CACHE}"/{built,cargo,lock,rustup,target} 2>/dev/null || true
	fi
}
