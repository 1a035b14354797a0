# shellcheck shell=bash
# Metadata of the layers (Cloud Native Buildpack API 0.10): `agent` goes into the image, `download` is the cache for the next
# build.

# layer::describe LAYERS: writes the layers' TOML files and the SBOM of `agent`.
layer::describe() {
	local layers="$1" sha256
	sha256="$(sha256sum <"${layers}/agent/bin/tailrace-agent")"
	sha256="${sha256%% *}"
	cat >"${layers}/agent.toml" <<-TOML
		[types]
		launch = true
		build = false
		cache = false

		[metadata]
		version = "${BINARY_VERSION}"
		triple = "${BINARY_TRIPLE}"
		sha256 = "${sha256}"
	TOML
	cat >"${layers}/agent.sbom.cdx.json" <<-JSON
		{
		  "bomFormat": "CycloneDX",
		  "specVersion": "1.5",
		  "version": 1,
		  "components": [
		    {
		      "type": "application",
		      "name": "tailrace",
		      "version": "${BINARY_VERSION}",
		      "purl": "pkg:generic/tailrace@${BINARY_VERSION/+/%2B}?arch=${BINARY_TRIPLE%%-*}",
		      "hashes": [{ "alg": "SHA-256", "content": "${sha256}" }],
		      "licenses": [{ "expression": "MIT OR Apache-2.0" }]
		    }
		  ]
		}
	JSON
	mkdir -p "${layers}/download"
	cat >"${layers}/download.toml" <<-TOML
		[types]
		launch = false
		build = false
		cache = true
	TOML
}
