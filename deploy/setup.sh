#!/usr/bin/env bash
# From an empty project, or an app's own, to the minute before the first push. Run it again at any point: what is there is
# left as it is. docs/deploy.md has the way around it.
#
#   PROJECT=my-app REGION=europe-west1 REDIS_URL=redis://10.0.0.3:6379/0 OPENAI_API_KEY=… deploy/setup.sh
#
# Optional: NETWORK and SUBNET (default), through which Redis is reached; DATABASE ((default)); IMAGE, to skip the build;
# BUILD_ACCOUNT, where Cloud Build may not use its own; SCHEDULE, in cron's form (each minute); ALERT_CHANNEL, a
# notification channel's name; WITHOUT_JOB=1, for who runs the job elsewhere: the database's part and the account alone.
# deploy/settings.env: the job's further settings, one NAME=value a line, each time anew.
# deploy/firestore.indexes.json: what the app's layout needs; for another layout
# RECAP_LAYOUT=layout.toml python job.py layout > deploy/firestore.indexes.json
# Secrets are read from the environment and go in by stdin, so that they stand in no list of processes; once they are
# stored, REDIS_URL and OPENAI_API_KEY may be left out. No key at all is needed where deploy/settings.env has
# RECAP_SUMMARIZER=extract, or the OPENAI_BASE_URL of a server that asks for none.
# It touches no index, field or policy of the app but those that deploy/firestore.indexes.json names.
set -euo pipefail
: "${PROJECT:?set PROJECT}" "${REGION:?set REGION}"
HERE=$(cd "$(dirname "$0")" && pwd)
NETWORK=${NETWORK:-default} SUBNET=${SUBNET:-default} DATABASE=${DATABASE:-(default)} WITHOUT_JOB=${WITHOUT_JOB:-}
SCHEDULE=${SCHEDULE:-* * * * *}
SETTINGS=${SETTINGS:-$HERE/settings.env} INDEXES=${INDEXES:-$HERE/firestore.indexes.json}
REPOSITORY="$REGION-docker.pkg.dev/$PROJECT/daily-recap"
JOB_ACCOUNT="daily-recap@$PROJECT.iam.gserviceaccount.com"
SCHEDULER_ACCOUNT="daily-recap-scheduler@$PROJECT.iam.gserviceaccount.com"
PAUSE=${SETUP_PAUSE_SECONDS:-10} # between two tries
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT

say() { echo "setup: $*" >&2; }
stop() {
  say "$*"
  exit 1
}
cloud() { gcloud "$@" --project="$PROJECT" --quiet; }

# Whether it is there. Any other failure than "there is none" ends the script: a network that is away is no empty project.
exists() {
  if cloud "$@" >"$SCRATCH/found" 2>"$SCRATCH/error"; then return 0; fi
  if grep -qiE 'NOT_FOUND|not found|does not exist|cannot find' "$SCRATCH/error"; then return 1; fi
  cat "$SCRATCH/error" >&2
  exit 1
}

# What was just made is known everywhere only after a while: an account, its rights, a metric (ten minutes, by its own word).
YOUNG='does not exist|Permission denied on secret|Cannot find metric|could take up to'
patiently() {
  local tries=0
  until cloud "$@" >/dev/null 2>"$SCRATCH/error"; do
    tries=$((tries + 1))
    if [ "$tries" -ge 80 ] || ! grep -qiE "$YOUNG" "$SCRATCH/error"; then
      cat "$SCRATCH/error" >&2
      exit 1
    fi
    sleep "$PAUSE"
  done
}

say "the APIs"
cloud services enable run.googleapis.com cloudscheduler.googleapis.com secretmanager.googleapis.com \
  artifactregistry.googleapis.com cloudbuild.googleapis.com firestore.googleapis.com fcm.googleapis.com \
  compute.googleapis.com logging.googleapis.com monitoring.googleapis.com iam.googleapis.com

say "the database"
exists firestore databases describe --database="$DATABASE" ||
  cloud firestore databases create --database="$DATABASE" --location="$REGION" --type=firestore-native

say "the job's account, with the least that it needs"
exists iam service-accounts describe "$JOB_ACCOUNT" || cloud iam service-accounts create "${JOB_ACCOUNT%%@*}"
for role in roles/datastore.user roles/firebasecloudmessaging.admin; do # documents; the smallest that may send
  patiently projects add-iam-policy-binding "$PROJECT" --member="serviceAccount:$JOB_ACCOUNT" --role="$role" \
    --condition=None
done

# What the indexes' file names of that kind, one a line, at file descriptor 3: gcloud reads stdin.
named() { python3 "$HERE/setup_helper.py" named "$1" "$INDEXES" >"$SCRATCH/named"; }

say "the indexes of the queries"
cloud firestore indexes composite list --database="$DATABASE" --format=json >"$SCRATCH/indexes"
named composite
while IFS=$'\t' read -r group fields <&3; do
  python3 "$HERE/setup_helper.py" composite "$SCRATCH/indexes" "$group" "$fields" && continue
  IFS=';' read -ra configs <<<"$fields" # it is asked for once: until it is ready, runs say so
  cloud firestore indexes composite create --database="$DATABASE" --collection-group="$group" --async \
    "${configs[@]/#/--field-config=}"
done 3<"$SCRATCH/named"

say "the fields that audit, report and the sweep ask for, and one that is too long for an index"
for kind in field unindexed; do # gcloud can't: over all users
  named "$kind"
  while read -r field <&3; do
    cloud auth print-access-token | python3 "$HERE/setup_helper.py" "$kind" "$PROJECT" "$DATABASE" "$field"
  done 3<"$SCRATCH/named"
done

say "what ends by itself: ledgers after 30 days, parts of long days after three"
named ttl
while IFS=/ read -r group field <&3; do
  cloud firestore fields ttls list --collection-group="$group" --database="$DATABASE" --format=json >"$SCRATCH/ttls"
  python3 "$HERE/setup_helper.py" ttl "$SCRATCH/ttls" "$field" ||
    cloud firestore fields ttls update "$field" --collection-group="$group" --database="$DATABASE" --enable-ttl --async
done 3<"$SCRATCH/named"

if [ -n "$WITHOUT_JOB" ]; then
  say "done: the database and $JOB_ACCOUNT; the job itself is yours to start"
  exit 0
fi

say "the scheduler's account"
exists iam service-accounts describe "$SCHEDULER_ACCOUNT" || cloud iam service-accounts create "${SCHEDULER_ACCOUNT%%@*}"

say "the image"
exists artifacts repositories describe daily-recap --location="$REGION" ||
  cloud artifacts repositories create daily-recap --location="$REGION" --repository-format=docker
if [ -z "${IMAGE:-}" ]; then
  [ -z "$(cd "$HERE/.." && git status --porcelain)" ] ||
    stop "this checkout has changes that no commit has; commit them, since the image is named for the commit, or set IMAGE"
  IMAGE="$REPOSITORY/daily-recap:$(cd "$HERE/.." && git rev-parse --short=12 HEAD)"
  exists artifacts docker images describe "$IMAGE" || cloud builds submit "$HERE/.." --tag="$IMAGE" \
    ${BUILD_ACCOUNT:+--service-account="projects/$PROJECT/serviceAccounts/$BUILD_ACCOUNT"} \
    ${BUILD_ACCOUNT:+--default-buckets-behavior=regional-user-owned-bucket}
fi

# A secret, and a version of it where the value that was given is another than the newest.
secret() {
  local name=$1 value=$2
  exists secrets describe "$name" || cloud secrets create "$name" --replication-policy=automatic
  if exists secrets versions access latest --secret="$name"; then
    printf %s "$value" >"$SCRATCH/given"
    if [ -n "$value" ] && ! cmp -s "$SCRATCH/given" "$SCRATCH/found"; then
      cloud secrets versions add "$name" --data-file=- <"$SCRATCH/given"
    fi
  elif [ -n "$value" ]; then
    printf %s "$value" | cloud secrets versions add "$name" --data-file=-
  else
    stop "the secret $name has no value yet; set it in the environment and run this again"
  fi
  patiently secrets add-iam-policy-binding "$name" --member="serviceAccount:$JOB_ACCOUNT" \
    --role=roles/secretmanager.secretAccessor
}
say "the secrets"
secret daily-recap-redis-url "${REDIS_URL:-}"
without_key=""
if [ -z "${OPENAI_API_KEY:-}" ] && grep -qsE '^(RECAP_SUMMARIZER=extract|OPENAI_BASE_URL=.+)$' "$SETTINGS" &&
  ! exists secrets describe daily-recap-openai-key; then
  without_key='/name: OPENAI_API_KEY$/{N;d;}'
  say "no key of an LLM: the settings use none"
else
  secret daily-recap-openai-key "${OPENAI_API_KEY:-}"
fi

say "the job"
sed -e "s|@IMAGE@|$IMAGE|" -e "s|@PROJECT@|$PROJECT|" -e "s|@NETWORK@|$NETWORK|" -e "s|@SUBNET@|$SUBNET|" \
  -e "s|@DATABASE@|$DATABASE|" -e "s|@JOB_ACCOUNT@|$JOB_ACCOUNT|" -e "$without_key" "$HERE/cloud-run-job.yaml" |
  python3 "$HERE/setup_helper.py" settings "$SETTINGS" >"$SCRATCH/job.yaml"
patiently run jobs replace "$SCRATCH/job.yaml" --region="$REGION"

say "the minute hand"
MINUTE=daily-recap-every-minute
hand() {
  patiently scheduler jobs "$1" http "$MINUTE" --location="$REGION" --schedule="$SCHEDULE" --time-zone=Etc/UTC \
    --http-method=POST --oauth-service-account-email="$SCHEDULER_ACCOUNT" \
    --uri="https://run.googleapis.com/v2/projects/$PROJECT/locations/$REGION/jobs/daily-recap:run"
}
# Nobody is served before somebody looked: it starts paused, and its account may start the job only after that.
cloud run jobs get-iam-policy daily-recap --region="$REGION" --format=json >"$SCRATCH/policy"
if ! exists scheduler jobs describe "$MINUTE" --location="$REGION" --format='value(state)'; then
  hand create
  STATE=HALF_MADE
elif grep -qF "$SCHEDULER_ACCOUNT" "$SCRATCH/policy"; then
  STATE=$(cat "$SCRATCH/found")
  [ "$STATE" = PAUSED ] || hand update # what is paused can't be changed
else # it was stopped between the two
  STATE=HALF_MADE
fi
if [ "$STATE" = HALF_MADE ]; then
  cloud scheduler jobs pause "$MINUTE" --location="$REGION"
  STATE=PAUSED
fi
patiently run jobs add-iam-policy-binding daily-recap --region="$REGION" \
  --member="serviceAccount:$SCHEDULER_ACCOUNT" --role=roles/run.invoker

say "what watches it (new metrics are known after some minutes)"
for file in "$HERE"/monitoring/metrics/*.yaml; do
  name=$(basename "$file" .yaml)
  if exists logging metrics describe "$name"; then verb=update; else verb=create; fi
  cloud logging metrics "$verb" "$name" --config-from-file="$file"
done
cloud alpha monitoring policies list --format='csv[no-heading](name,displayName)' >"$SCRATCH/policies"
for file in "$HERE"/monitoring/policies/*.yaml; do
  name=$(sed -n 's/^displayName: "\(.*\)"$/\1/p' "$file")
  id=$(grep -F ",$name" "$SCRATCH/policies" | cut -d, -f1 || true)
  if [ -z "$id" ]; then
    patiently alpha monitoring policies create --policy-from-file="$file" \
      ${ALERT_CHANNEL:+--notification-channels="$ALERT_CHANNEL"}
  elif [ -n "${ALERT_CHANNEL:-}" ]; then # its thresholds are yours meanwhile
    cloud alpha monitoring policies update "$id" --add-notification-channels="$ALERT_CHANNEL"
  fi
done

say "done. Look first: gcloud run jobs execute daily-recap --project=$PROJECT --region=$REGION --wait --args=doctor"
[ "$STATE" != PAUSED ] ||
  say "the minute hand is paused; to start it: gcloud scheduler jobs resume $MINUTE --project=$PROJECT --location=$REGION"
