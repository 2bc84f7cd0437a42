"""For authors of adapters: the ports in memory, and a contract suite for each port. Needs only pytest.

A suite is a class of tests. A subclass gives `make`, which opens what is to be tested, and gets all of them:

    class TestPostgresStore(StoreSuite):
        world = PostgresWorld()

        @asynccontextmanager
        async def make(self, rules: LedgerRules = RULES) -> AsyncIterator[Store]:
            yield PostgresStore(self.world.url, rules)

The job itself never imports this package.
"""

from notifications.testing.base import Suite as Suite
from notifications.testing.channel_suite import ChannelSuite as ChannelSuite
from notifications.testing.channel_suite import PushTrouble as PushTrouble
from notifications.testing.claims import ENVIRONMENT as ENVIRONMENT
from notifications.testing.claims import MemoryClaims as MemoryClaims
from notifications.testing.claims import MemoryRedis as MemoryRedis
from notifications.testing.claims_suite import ClaimsSuite as ClaimsSuite
from notifications.testing.services import MemoryPush as MemoryPush
from notifications.testing.services import MemorySummarizer as MemorySummarizer
from notifications.testing.services import answered as answered
from notifications.testing.store import MemoryDocuments as MemoryDocuments
from notifications.testing.store import MemoryStore as MemoryStore
from notifications.testing.store import MemoryWorld as MemoryWorld
from notifications.testing.store_suite import StoreSuite as StoreSuite
from notifications.testing.summarizer_suite import LLMTrouble as LLMTrouble
from notifications.testing.summarizer_suite import SummarizerSuite as SummarizerSuite
from notifications.testing.world import Doc as Doc
from notifications.testing.world import World as World
from notifications.testing.world import talk as talk
