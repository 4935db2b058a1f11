package main

import (
	"fmt"
	"strings"
)

// event is what leads from one state to the next.
type event struct {
	what    what
	kind    kind
	cluster int
	node    int
	a, b    uint8
}

type what uint8

const (
	clientAsks what = iota
	clientAborts
	installs
	applies
	leads
	asks
	holds
	grants
	grantsDeposed
	refuses
	commits
	isRefused
	told
	gateMoves
	startsTelling
	startsVolumeCall
	startsHangingCall
	sends
	orphanCallEnds
	orphanPromotionEnds
	callEnds
	endsDemoting
	refusesDemoting
	endsPromoting
	refusesPromoting
	losesCall
	endsReopening
	thinksItExecutes
	learnsOfClaim
	stopsWaiting
	startsPromoting
	startsDemoting
	startsReopening
	givesUpClaim
	decides
	decidesDeposed
	planCommits
	planRefused
	wins
	winsPlanLost
	winsPlanCommits
	wonByEmptied
	fallsAsleep
	isStopped
	wakes
	crashes
	restarts
	passes
	passesSlowly
)

// String says the event in a sentence: NODE, KIND, A and B stand for its parts.
func (e event) String() string {
	text := [...]string{
		clientAsks:          "a client asks for failover A",
		clientAborts:        "a client aborts the failover",
		installs:            "NODE installs a snapshot",
		applies:             "NODE applies KIND",
		leads:               "NODE has applied its barrier and leads",
		asks:                "NODE asks node A for a lease",
		holds:               "NODE holds a lease for A ticks",
		grants:              "node A grants NODE a lease from index B on",
		grantsDeposed:       "node A, DEPOSED, grants NODE a lease from index B on",
		refuses:             "the leader refuses NODE its lease: it has had its time",
		commits:             "KIND of NODE (failover A, attempt B) is committed",
		isRefused:           "KIND of NODE (failover A, attempt B) is refused",
		told:                "the driver of NODE knows the site",
		gateMoves:           "the gate of NODE moves",
		startsTelling:       "NODE starts to tell its driver of epoch A",
		startsVolumeCall:    "NODE admits a volume call under epoch A",
		startsHangingCall:   "NODE admits a volume call under epoch A that HANGS",
		sends:               "NODE sends KIND (failover A, attempt B)",
		orphanCallEnds:      "the orphaned volume call of NODE ends",
		orphanPromotionEnds: "the orphaned promotion call of NODE ends",
		callEnds:            "the volume call of NODE ends",
		endsDemoting:        "the driver of NODE has demoted the old site",
		refusesDemoting:     "the driver of NODE refuses to demote",
		endsPromoting:       "the driver of NODE has promoted the target",
		refusesPromoting:    "the driver of NODE refuses: nothing is promoted",
		losesCall:           "the call of NODE ends and nobody knows how",
		endsReopening:       "the driver of NODE has opened the old site again",
		thinksItExecutes:    "NODE takes itself for the executor",
		learnsOfClaim:       "NODE learns that its claim is committed",
		stopsWaiting:        "NODE stops waiting for its claim",
		startsPromoting:     "NODE STARTS TO PROMOTE to epoch A, attempt B",
		startsDemoting:      "NODE starts to demote under epoch A, attempt B",
		startsReopening:     "NODE starts to open the old site again, epoch A, attempt B",
		givesUpClaim:        "NODE gives up its claim",
		decides:             "NODE decides: KIND, node A, attempt B",
		decidesDeposed:      "NODE, DEPOSED, decides: KIND, node A, attempt B",
		planCommits:         "the decision of NODE is committed: KIND, node A, attempt B",
		planRefused:         "the decision of NODE is refused: KIND, node A, attempt B",
		wins:                "NODE WINS AN ELECTION",
		winsPlanLost:        "NODE WINS AN ELECTION; the old leader's decision is lost",
		winsPlanCommits:     "NODE WINS AN ELECTION; the old leader's decision is committed",
		wonByEmptied:        "NODE WINS AN ELECTION by the vote of a node whose DISK WAS EMPTIED",
		fallsAsleep:         "the machine of NODE is PAUSED",
		isStopped:           "the agent of NODE is STOPPED, its driver goes on",
		wakes:               "NODE WAKES",
		crashes:             "NODE CRASHES",
		restarts:            "NODE restarts",
		passes:              "--- a tick passes",
		passesSlowly:        "--- a tick passes, for some clocks only",
	}[e.what]
	name := fmt.Sprintf("node %d", e.node)
	if e.cluster > 0 {
		name = fmt.Sprintf("node %d (cluster %d)", e.node, e.cluster)
	}
	return strings.NewReplacer("NODE", name, "KIND", e.kind.String(), " A", fmt.Sprintf(" %d", e.a), " B", fmt.Sprintf(" %d", e.b)).Replace(text)
}

func (k kind) String() string {
	return [...]string{
		noCommand: "nothing", requested: "RequestFailover", requestedPlanned: "RequestFailover (planned)",
		memberDrained: "MemberDrained", assigned: "Assign", claimMade: "Claim", completed: "FailoverCompleted",
		refusedBy: "FailoverRefused", refusedReopened: "FailoverRefused (reopened)", attemptEnded: "AttemptEnded",
		stagedResults: "StageResults", stagedForeign: "StageResults (of an older claim)", gaveUp: "GiveUp",
		abortedBy: "AbortFailover", memberSwitched: "MemberSwitched", finished: "FinishFailover",
	}[k]
}

func (p phase) String() string {
	return [...]string{
		quiet: "quiet", draining: "draining", promoting: "promoting", switching: "switching",
		done: "done", failed: "failed", aborted: "aborted",
	}[p]
}
