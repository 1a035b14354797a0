# shellcheck shell=bash
# The command that probably starts an app without a Procfile: the default of the platform's language buildpacks. It is only
# suggested in a message, never run.

# default_command::find APP: sets REPLY to the command; empty when no language is recognized.
default_command::find() {
	local app="$1" file
	REPLY=""
	if [[ -f "${app}/Gemfile" ]]; then
		REPLY="bundle exec rackup config.ru -p \${PORT:-5000}"
		[[ ! -f "${app}/config/application.rb" ]] || REPLY="bin/rails server -p \${PORT:-5000} -e \$RAILS_ENV"
		[[ ! -f "${app}/config/puma.rb" ]] || REPLY="bundle exec puma -C config/puma.rb"
	elif [[ -f "${app}/requirements.txt" ]]; then
		REPLY="gunicorn app:app"
		for file in "${app}"/*/wsgi.py; do
			file="${file%/wsgi.py}"
			# Skip directories that cannot be Python packages.
			[[ ! -f "${file}/wsgi.py" || "${file##*/}" == *[!A-Za-z0-9_]* ]] || REPLY="gunicorn ${file##*/}.wsgi"
		done
	elif [[ -f "${app}/go.mod" ]]; then
		file="$(sed -nE 's/^module[[:blank:]]+"?([^[:space:]"]+).*/\1/p' "${app}/go.mod")"
		file="${file%%$'\n'*}"
		[[ ! "${file}" =~ /v[0-9]+$ ]] || file="${file%/*}"
		[[ -z "${file}" ]] || REPLY="bin/${file##*/}"
	elif [[ -f "${app}/package.json" ]]; then
		REPLY="npm start"
		[[ ! -f "${app}/yarn.lock" ]] || REPLY="yarn start"
		[[ ! -f "${app}/pnpm-lock.yaml" ]] || REPLY="pnpm start"
	fi
}
