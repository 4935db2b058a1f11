package fsm_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

// A refusal names the field, its value and what is allowed, and changes nothing.
func TestCommandsAreRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	type refusal struct {
		given   func(l *log)
		command fsm.Command
		code    fsm.Code
		field   string
		value   string
		allowed string // joined by spaces
	}
	for name, tc := range map[string]refusal{
		"register a node without an id":                  {nil, fsm.RegisterNode{}, fsm.ErrInvalid, "node", "", ""},
		"register a node with a slash":                   {nil, fsm.RegisterNode{Node: fsm.Node{ID: "a/b"}}, fsm.ErrInvalid, "node", "a/b", ""},
		"remove a node nobody knows":                     {nil, fsm.RemoveNode{ID: "node9"}, fsm.ErrNotFound, "node", "node9", ""},
		"remove a node that has services":                {(*log).registersNode, fsm.RemoveNode{ID: "node1"}, fsm.ErrConflict, "node", "node1", ""},
		"register a service without a backend":           {nil, fsm.RegisterService{Host: "node1", Node: "node1"}, fsm.ErrInvalid, "host", "node1", ""},
		"register a service without a node":              {nil, fsm.RegisterService{Host: "a@b"}, fsm.ErrInvalid, "node", "", ""},
		"register a service with a long cluster":         {nil, fsm.RegisterService{Host: "a@b", Node: "a", Cluster: long}, fsm.ErrInvalid, "cluster", long, ""},
		"register a service with the primary as target":  {nil, fsm.RegisterService{Host: "a@b", Node: "a", Targets: []string{"default"}}, fsm.ErrInvalid, "targets", "default", ""},
		"move a service to another cluster":              {nil, fsm.RegisterService{Host: n1, Node: "node1", Cluster: "x@y"}, fsm.ErrConflict, "cluster", "x@y", ""},
		"name a cluster like a service outside clusters": {nil, fsm.RegisterService{Host: "a@b", Node: "a", Cluster: lone}, fsm.ErrConflict, "cluster", lone, ""},
		"delete a service nobody knows":                  {nil, fsm.DeleteService{Host: "a@b", Term: 1}, fsm.ErrNotFound, "host", "a@b", ""},
		"delete a service by a leader of another term":   {nil, fsm.DeleteService{Host: n1, Term: 7}, fsm.ErrStale, "", "", ""},
		"delete a service during a failover":             {(*log).asks, fsm.DeleteService{Host: n1, Term: 1}, fsm.ErrFailingOver, "cluster", dev, ""},
		"delete a service that owes an operation":        {(*log).owes, fsm.DeleteService{Host: n1, Term: 1}, fsm.ErrConflict, "host", n1, ""},
		"disable a service nobody knows":                 {nil, fsm.SetServiceDisabled{Host: "a@b"}, fsm.ErrNotFound, "host", "a@b", ""},
		"disable a cluster nobody knows":                 {nil, fsm.SetClusterDisabled{Cluster: "a@b"}, fsm.ErrNotFound, "cluster", "a@b", ""},
		"freeze a cluster nobody knows":                  {nil, fsm.SetFrozen{Cluster: "a@b", Frozen: true}, fsm.ErrNotFound, "cluster", "a@b", ""},
		"freeze a cluster without members":               {(*log).leaves, fsm.SetFrozen{Cluster: dev, Frozen: true}, fsm.ErrConflict, "cluster", dev, ""},
		"report a freeze that nobody owes":               {nil, fsm.FreezeReported{Cluster: dev, Host: n1}, fsm.ErrStale, "", "", ""},
		"fail over a cluster nobody knows":               {nil, fsm.RequestFailover{ID: "f", Cluster: n1, Target: "site-b", Mode: fsm.Forced}, fsm.ErrNotFound, "cluster", n1, ""},
		"fail over without an id":                        {nil, fsm.RequestFailover{Cluster: dev, Target: "site-b", Mode: fsm.Forced}, fsm.ErrInvalid, "id", "", ""},
		"fail over in no mode":                           {nil, fsm.RequestFailover{ID: "f", Cluster: dev, Target: "site-b"}, fsm.ErrInvalid, "mode", "", "forced planned"},
		"fail over to a site nobody knows":               {nil, fsm.RequestFailover{ID: "f", Cluster: dev, Target: "x", Mode: fsm.Forced}, fsm.ErrInvalid, "backend_id", "x", "default site-b site-c"},
		"fail over to one of two without saying which":   {nil, fsm.RequestFailover{ID: "f", Cluster: dev, Mode: fsm.Forced}, fsm.ErrInvalid, "backend_id", "", "default site-b site-c"},
		"use the id of another failover":                 {(*log).asks, fsm.RequestFailover{ID: "f1", Cluster: dev, Target: "site-c", Mode: fsm.Forced}, fsm.ErrConflict, "id", "f1", ""},
		"fail over while failing over":                   {(*log).asks, fsm.RequestFailover{ID: "f2", Cluster: dev, Target: "site-b", Mode: fsm.Forced}, fsm.ErrFailingOver, "cluster", dev, ""},
		"abort a failover nobody knows":                  {nil, fsm.AbortFailover{ID: "f9"}, fsm.ErrNotFound, "failover", "f9", ""},
		"abort a failover that an executor has claimed":  {(*log).promotes, fsm.AbortFailover{ID: "f1"}, fsm.ErrConflict, "failover", "f1", ""},
		"abort after an earlier attempt has claimed":     {func(l *log) { l.promotes(); l.assign("f1", n2) }, fsm.AbortFailover{ID: "f1"}, fsm.ErrConflict, "failover", "f1", ""},
		"abort a failover that is done":                  {func(l *log) { l.failsOver("f1", "site-b") }, fsm.AbortFailover{ID: "f1"}, fsm.ErrConflict, "failover", "f1", ""},
		"drain for no failover":                          {nil, fsm.MemberDrained{Failover: "f1", Host: n1}, fsm.ErrStale, "", "", ""},
		"drain as no member":                             {(*log).asks, fsm.MemberDrained{Failover: "f1", Host: lone}, fsm.ErrStale, "", "", ""},
		"drain when it is over":                          {(*log).promotes, fsm.MemberDrained{Failover: "f1", Attempt: 1, Host: n1}, fsm.ErrStale, "", "", ""},
		"assign in another term":                         {(*log).asks, fsm.Assign{Failover: "f1", Executor: n1, Term: 2}, fsm.ErrStale, "", "", ""},
		"assign to no member":                            {(*log).asks, fsm.Assign{Failover: "f1", Executor: lone, Term: 1}, fsm.ErrStale, "", "", ""},
		"assign an attempt that is over":                 {(*log).promotes, fsm.Assign{Failover: "f1", Executor: n1, Term: 1}, fsm.ErrStale, "", "", ""},
		"claim before an executor is assigned":           {(*log).asks, fsm.Claim{Failover: "f1", Host: n1}, fsm.ErrStale, "", "", ""},
		"claim after the attempt has ended":              {func(l *log) { l.promotes(); l.do(l.ended("f1")) }, fsm.Claim{Failover: "f1", Attempt: 1, Host: n1}, fsm.ErrStale, "", "", ""},
		"complete without a claim":                       {func(l *log) { l.asks(); l.drain("f1"); l.assign("f1", n1) }, fsm.FailoverCompleted{Failover: "f1", Attempt: 1}, fsm.ErrStale, "", "", ""},
		"assign while a member is stuck":                 {func(l *log) { l.asks(); l.drain("f1"); l.do(fsm.ReportStuck{Host: n3, Stuck: true}) }, fsm.Assign{Failover: "f1", Executor: n1, Term: 1}, fsm.ErrConflict, "host", n3, ""},
		"claim while a member is stuck": {func(l *log) {
			l.asks()
			l.drain("f1")
			l.assign("f1", n1)
			l.do(fsm.ReportStuck{Host: n3, Stuck: true})
		}, fsm.Claim{Failover: "f1", Attempt: 1, Host: n1}, fsm.ErrConflict, "host", n3, ""},
		"move operations of a stuck member":                 {func(l *log) { l.owes(); l.do(fsm.ReportStuck{Host: n1, Stuck: true}) }, fsm.MoveOperations{From: n1, To: n2, Term: 1}, fsm.ErrStale, "", "", ""},
		"a service nobody knows is stuck":                   {nil, fsm.ReportStuck{Host: "a@b", Stuck: true}, fsm.ErrNotFound, "host", "a@b", ""},
		"give up in another term":                           {(*log).asks, fsm.GiveUp{Failover: "f1", Term: 2}, fsm.ErrStale, "", "", ""},
		"finish in another term":                            {func(l *log) { l.committed("f1", "site-b") }, fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: 2}, fsm.ErrStale, "", "", ""},
		"finish before the switch":                          {(*log).promotes, fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: 1}, fsm.ErrStale, "", "", ""},
		"switch a service nobody knows":                     {nil, fsm.MemberSwitched{Host: "a@b", Epoch: 1, ActiveBackendID: "default"}, fsm.ErrNotFound, "host", "a@b", ""},
		"settle what is not committed":                      {func(l *log) { l.promotes(); l.stage("f1", fsm.VolumeResult{VolumeID: "v"}) }, fsm.SettleResults{Cluster: dev, Term: 1}, fsm.ErrStale, "", "", ""},
		"create a volume without an id":                     {nil, fsm.CreateVolume{Volume: fsm.Volume{Size: 1, Host: n1}}, fsm.ErrInvalid, "id", "", ""},
		"create a volume of no size":                        {nil, fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Host: n1}}, fsm.ErrInvalid, "size", "0", ""},
		"create a volume that exists":                       {(*log).owes, fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: n1}}, fsm.ErrExists, "id", "v", ""},
		"create a volume at a host nobody knows":            {nil, fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: "a@b"}}, fsm.ErrNotFound, "host", "a@b", ""},
		"create a volume while failing over":                {(*log).asks, fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: n1}}, fsm.ErrFailingOver, "cluster", dev, ""},
		"create a volume while frozen":                      {(*log).freezes, fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: n1}}, fsm.ErrFrozen, "cluster", dev, ""},
		"create a volume while disabled":                    {func(l *log) { l.failsOver("f1", "site-b") }, fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: n1}}, fsm.ErrDisabled, "cluster", dev, ""},
		"create a volume while gates are held closed":       {(*log).held, fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: n1}}, fsm.ErrHeld, "cluster", dev, ""},
		"delete a volume nobody knows":                      {nil, fsm.DeleteVolume{ID: "v"}, fsm.ErrNotFound, "volume_id", "v", ""},
		"delete a volume that is being created":             {(*log).owes, fsm.DeleteVolume{ID: "v"}, fsm.ErrConflict, "status", "creating", "available or error or error_deleting or error_extending"},
		"delete a volume with snapshots":                    {(*log).snapshots, fsm.DeleteVolume{ID: "v"}, fsm.ErrConflict, "volume_id", "v", ""},
		"delete a volume while frozen":                      {func(l *log) { l.volume("v", true); l.freezes() }, fsm.DeleteVolume{ID: "v"}, fsm.ErrFrozen, "cluster", dev, ""},
		"extend a volume that is being created":             {(*log).owes, fsm.ExtendVolume{ID: "v", Size: 2}, fsm.ErrConflict, "status", "creating", "available"},
		"shrink a volume":                                   {(*log).snapshots, fsm.ExtendVolume{ID: "v", Size: 1}, fsm.ErrInvalid, "new_size", "1", ""},
		"delete a volume with a result that is not settled": {(*log).unsettled, fsm.DeleteVolume{ID: "v"}, fsm.ErrConflict, "volume_id", "v", ""},
		"extend a volume with a result that is not settled": {(*log).unsettled, fsm.ExtendVolume{ID: "v", Size: 1}, fsm.ErrInvalid, "new_size", "1", ""},
		"take a snapshot of a volume nobody knows":          {nil, fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: "s", VolumeID: "v"}}, fsm.ErrNotFound, "volume_id", "v", ""},
		"take a snapshot that exists":                       {(*log).snapshots, fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: "s", VolumeID: "v"}}, fsm.ErrExists, "id", "s", ""},
		"take a snapshot of a volume being created":         {(*log).owes, fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: "s", VolumeID: "v"}}, fsm.ErrConflict, "status", "creating", "available"},
		"delete a snapshot nobody knows":                    {nil, fsm.DeleteSnapshot{ID: "s"}, fsm.ErrNotFound, "snapshot_id", "s", ""},
		"delete a snapshot twice":                           {func(l *log) { l.snapshots(); l.do(fsm.DeleteSnapshot{ID: "s"}) }, fsm.DeleteSnapshot{ID: "s"}, fsm.ErrConflict, "status", "deleting", "available or error"},
		"end an operation that nobody owes":                 {nil, fsm.EndOperation{Operation: 9, Host: n1, Epoch: 1}, fsm.ErrStale, "", "", ""},
		"move operations in another term":                   {(*log).owes, fsm.MoveOperations{From: n1, To: n2, Term: 2}, fsm.ErrStale, "", "", ""},
		"move operations to nobody":                         {(*log).owes, fsm.MoveOperations{From: n1, To: "a@b", Term: 1}, fsm.ErrStale, "", "", ""},
		"create a type without a name":                      {nil, fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t"}}, fsm.ErrInvalid, "name", "", ""},
		"create a type whose name is taken":                 {(*log).types, fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "u", Name: "gold"}}, fsm.ErrExists, "name", "gold", ""},
		"create a type whose id is taken":                   {(*log).types, fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t", Name: "silver"}}, fsm.ErrExists, "id", "t", ""},
		"delete a type nobody knows":                        {nil, fsm.DeleteVolumeType{ID: "t"}, fsm.ErrNotFound, "id", "t", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			if tc.given != nil {
				tc.given(l)
			}
			r := l.refusal(tc.command, tc.code)
			equal(t, "field", r.Field, tc.field)
			equal(t, "value", r.Value, tc.value)
			equal(t, "allowed", strings.Join(r.Allowed, " "), tc.allowed)
			if tc.field != "" && r.Message == "" {
				t.Error("the refusal has no sentence for people")
			}
		})
	}
}

// What the table above is given.

func (l *log) registersNode() { l.do(fsm.RegisterNode{Node: fsm.Node{ID: "node1"}}) }
func (l *log) asks()          { l.ask("f1", "site-b") }
func (l *log) promotes()      { l.claimed("f1", "site-b") }
func (l *log) freezes()       { l.do(fsm.SetFrozen{Cluster: dev, Frozen: true}) }
func (l *log) snapshots()     { l.volume("v", true); l.snapshot("s", "v") }

func (l *log) owes() {
	l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: n1}})
}

func (l *log) types() {
	l.do(fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t", Name: "gold"}})
}

func (l *log) leaves() {
	l.volume("v", true)
	for _, host := range []string{n1, n2, n3} {
		l.do(fsm.DeleteService{Host: host, Term: l.term})
	}
}

func (l *log) held() {
	l.promotes()
	l.do(l.giveUp("f1"))
	l.do(fsm.SetClusterDisabled{Cluster: dev})
}

func (l *log) unsettled() {
	l.snapshots()
	l.committed("f1", "site-b", fsm.VolumeResult{VolumeID: "v", VolumeUpdate: fsm.VolumeUpdate{ProviderID: "p"}})
}

func TestRefusalsOfADriverAreOfTwoKinds(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.promotes()
	r := l.refusal(l.driverRefuses("f1", "Timeout"), fsm.ErrInvalid)
	equal(t, "field", r.Field, "refusal")
	equal(t, "allowed", strings.Join(r.Allowed, " "), "InvalidReplicationTarget UnableToFailOver")
}

func TestTooManyResultsAreRefused(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.promotes()
	f := l.failover("f1")
	r := l.refusal(fsm.StageResults{
		Failover: "f1", Attempt: 1, ClaimIndex: f.ClaimIndex, Results: make([]fsm.VolumeResult, fsm.MaxStagedResults+1),
	}, fsm.ErrTooLarge)
	equal(t, "field", r.Field, "results")
}

func TestCodesSurviveWrapping(t *testing.T) {
	t.Parallel()
	for _, err := range []error{fsm.ErrStale, &fsm.Refusal{Code: fsm.ErrStale, Message: "late"}} {
		wrapped := fmt.Errorf("assign: %w", err)
		if !errors.Is(wrapped, fsm.ErrStale) || errors.Is(wrapped, fsm.ErrHeld) {
			t.Errorf("%v is not what it was", wrapped)
		}
		equal(t, "code", fsm.CodeOf(wrapped), fsm.ErrStale)
	}
	equal(t, "code of a stranger", fsm.CodeOf(errors.New("broken")), fsm.ErrInternal)
	equal(t, "text", fsm.ErrNotFound.Error(), "not found")
}
