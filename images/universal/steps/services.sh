. /run/recipe/lib.sh
install postgresql postgresql-contrib redis-server
version=$(ls /usr/lib/postgresql | sort -V | tail -n 1)
[ "$version" = 16 ] || left_out "PostgreSQL 16" "$release carries PostgreSQL $version, which is installed"
# Off until `service … start`. Connections from the machine itself need no password: nobody else is there.
sed -i -E 's/^(local|host)(\s+\S+\s+\S+\s+.*)(peer|scram-sha-256)$/\1\2trust/' "/etc/postgresql/$version/main/pg_hba.conf"
major=$(redis-server --version | sed -n 's/.*v=\([0-9]*\).*/\1/p')
[ "$major" = 7 ] || left_out "Redis 7" "$release carries Redis $major, which is installed"
