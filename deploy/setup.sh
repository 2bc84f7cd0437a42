#!/usr/bin/env bash
# From an empty project, or an app's own, to the first push. Run it again at any point: what is there is left as it is.
#
#   PROJECT=my-app REGION=europe-west1 REDIS_URL=redis://10.0.0.3:6379/0 OPENAI_API_KEY=… deploy/setup.sh
#
# Optional: NETWORK and SUBNET (default), through which Redis is reached; DATABASE ((default)); IMAGE, to skip the build;
# ALERT_CHANNEL, a notification channel's name. Secrets are read from the environment and go in by stdin, so that they
# stand in no list of processes; once they are stored, REDIS_URL and OPENAI_API_KEY may be left out.
# It touches no index, field or policy of the app but those that deploy/firestore.indexes.json names.
set -euo pipefail
: "${PROJECT:?set PROJECT}" "${REGION:?set REGION}"
HERE=$(cd "$(dirname "$0")" && pwd)
NETWORK=${NETWORK:-default} SUBNET=${SUBNET:-default} DATABASE=${DATABASE:-(default)}
REPOSITORY="$REGION-docker.pkg.dev/$PROJECT/daily-recap"
JOB_ACCOUNT="daily-recap@$PROJECT.iam.gserviceaccount.com"
SCHEDULER_ACCOUNT="daily-recap-scheduler@$PROJECT.iam.gserviceaccount.com"
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT

say() { echo "setup: $*" >&2; }
cloud() { gcloud "$@" --project="$PROJECT" --quiet; }

# Whether it is there. Any other failure than "there is none" ends the script: a network that is away is no empty project.
exists() {
  if cloud "$@" >"$SCRATCH/found" 2>"$SCRATCH/error"; then return 0; fi
  if grep -qiE 'NOT_FOUND|not found|does not exist|cannot find' "$SCRATCH/error"; then return 1; fi
  cat "$SCRATCH/error" >&2
  exit 1
}

# A new service account is known everywhere only after a while.
patiently() {
  local tries=0
  until cloud "$@" >/dev/null 2>"$SCRATCH/error"; do
    tries=$((tries + 1))
    if [ "$tries" -ge 10 ] || ! grep -qi 'does not exist' "$SCRATCH/error"; then
      cat "$SCRATCH/error" >&2
      exit 1
    fi
    sleep "${SETUP_PAUSE_SECONDS:-5}"
  done
}

say "the APIs"
cloud services enable run.googleapis.com cloudscheduler.googleapis.com secretmanager.googleapis.com \
  artifactregistry.googleapis.com cloudbuild.googleapis.com firestore.googleapis.com fcm.googleapis.com \
  logging.googleapis.com monitoring.googleapis.com iam.googleapis.com

say "the database"
exists firestore databases describe --database="$DATABASE" ||
  cloud firestore databases create --database="$DATABASE" --location="$REGION" --type=firestore-native

say "the image"
exists artifacts repositories describe daily-recap --location="$REGION" ||
  cloud artifacts repositories create daily-recap --location="$REGION" --repository-format=docker
if [ -z "${IMAGE:-}" ]; then
  IMAGE="$REPOSITORY/daily-recap:$(cd "$HERE/.." && git rev-parse --short=12 HEAD)"
  exists artifacts docker images describe "$IMAGE" || cloud builds submit "$HERE/.." --tag="$IMAGE"
fi

say "two service accounts, each with the least that it needs"
for account in "$JOB_ACCOUNT" "$SCHEDULER_ACCOUNT"; do
  exists iam service-accounts describe "$account" || cloud iam service-accounts create "${account%%@*}"
done
for role in roles/datastore.user roles/firebasecloudmessaging.admin; do # documents; the smallest that may send
  patiently projects add-iam-policy-binding "$PROJECT" --member="serviceAccount:$JOB_ACCOUNT" --role="$role" \
    --condition=None
done

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
    say "the secret $name has no value yet; set it in the environment and run this again"
    exit 1
  fi
  patiently secrets add-iam-policy-binding "$name" --member="serviceAccount:$JOB_ACCOUNT" \
    --role=roles/secretmanager.secretAccessor
}
say "the secrets"
secret daily-recap-redis-url "${REDIS_URL:-}"
secret daily-recap-openai-key "${OPENAI_API_KEY:-}"

say "the index of the query for users"
cloud firestore indexes composite list --database="$DATABASE" --format=json >"$SCRATCH/indexes"
python3 "$HERE/indexes.py" composite "$SCRATCH/indexes" || # it is asked for once: until it is ready, runs say so
  cloud firestore indexes composite create --database="$DATABASE" --collection-group=users --async \
    --field-config=field-path=daily_summary_enabled,order=ascending \
    --field-config=field-path=daily_summary_hour_local,order=ascending \
    --field-config=field-path=time_zone,order=ascending

say "the fields that audit, report and the sweep ask for"
for field in recap_deliveries/date recap_deliveries/state daily_summaries/date; do # gcloud can't: over all users
  cloud auth print-access-token | python3 "$HERE/indexes.py" field "$PROJECT" "$DATABASE" "$field"
done

say "what ends by itself: ledgers after 30 days, parts of long days after three"
for group in recap_deliveries parts; do
  cloud firestore fields ttls list --collection-group="$group" --database="$DATABASE" --format=json >"$SCRATCH/ttls"
  python3 "$HERE/indexes.py" ttl "$SCRATCH/ttls" ||
    cloud firestore fields ttls update expire_at --collection-group="$group" --database="$DATABASE" --enable-ttl --async
done

say "the job"
sed -e "s|@IMAGE@|$IMAGE|" -e "s|@PROJECT@|$PROJECT|" -e "s|@NETWORK@|$NETWORK|" -e "s|@SUBNET@|$SUBNET|" \
  -e "s|@DATABASE@|$DATABASE|" -e "s|@JOB_ACCOUNT@|$JOB_ACCOUNT|" "$HERE/cloud-run-job.yaml" >"$SCRATCH/job.yaml"
cloud run jobs replace "$SCRATCH/job.yaml" --region="$REGION"
patiently run jobs add-iam-policy-binding daily-recap --region="$REGION" \
  --member="serviceAccount:$SCHEDULER_ACCOUNT" --role=roles/run.invoker

say "what watches it"
for file in "$HERE"/monitoring/metrics/*.yaml; do
  name=$(basename "$file" .yaml)
  if exists logging metrics describe "$name"; then verb=update; else verb=create; fi
  cloud logging metrics "$verb" "$name" --config-from-file="$file"
done
cloud alpha monitoring policies list --format='value(displayName)' >"$SCRATCH/policies"
for file in "$HERE"/monitoring/policies/*.yaml; do
  name=$(sed -n 's/^displayName: "\(.*\)"$/\1/p' "$file")
  grep -qxF "$name" "$SCRATCH/policies" || # once it is there it is yours: thresholds, channels
    cloud alpha monitoring policies create --policy-from-file="$file" \
      ${ALERT_CHANNEL:+--notification-channels="$ALERT_CHANNEL"}
done

say "the minute hand: from now on it runs"
if exists scheduler jobs describe daily-recap-every-minute --location="$REGION"; then verb=update; else verb=create; fi
patiently scheduler jobs "$verb" http daily-recap-every-minute --location="$REGION" \
  --schedule='* * * * *' --time-zone=Etc/UTC --http-method=POST \
  --uri="https://run.googleapis.com/v2/projects/$PROJECT/locations/$REGION/jobs/daily-recap:run" \
  --oauth-service-account-email="$SCHEDULER_ACCOUNT"

say "done. Its first run: gcloud --project=$PROJECT run jobs execute daily-recap --region=$REGION --wait"
